"""A port for strangers over TLS that has no room any more."""

import asyncio
import logging
import socket
from contextlib import ExitStack

import aiohttp
import pytest
from aiohttp import web

from integration.trust.world import World
from isthmus_core.spiffe import controller_name
from isthmus_kit.readiness import Readiness
from isthmus_kit.telemetry import new_registry
from isthmus_kit.tls import ClientCertificates, client_context, server_context
from isthmus_kit.tls_site import TlsSite
from isthmus_kit.web import make_app
from support.waiting import eventually

pytestmark = pytest.mark.anyio


async def ended(sock: socket.socket) -> bool:
    try:
        return await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    except ConnectionError:
        return True


async def test_a_full_port_closes_who_comes_says_so_once_and_has_room_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    runner = web.AppRunner(make_app(Readiness(), new_registry()))
    await runner.setup()
    site = TlsSite(runner, "127.0.0.1", 0, server_context(world.controller(), ClientCertificates.OPTIONAL), limit=5)
    await site.start()
    address = runner.addresses[0]
    try:
        with caplog.at_level(logging.WARNING), ExitStack() as stack:
            opened = [stack.enter_context(socket.socket()) for _ in range(8)]
            for sock in opened:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, address)
            async with asyncio.timeout(4):  # less than a handshake may take
                assert [await ended(sock) for sock in opened[5:]] == [True, True, True]
            assert len(site.connections) == 5
        assert [record.msg for record in caplog.records] == ["the port has no room for more connections"]
        await eventually(lambda: not site.connections, 10)
        async with aiohttp.ClientSession() as client:
            url, name = f"https://127.0.0.1:{address[1]}/healthz", controller_name(world.domain)
            async with client.get(url, ssl=client_context(world.roots), server_hostname=name) as answer:
                assert answer.status == 200
    finally:
        await runner.cleanup()
        site.abort()
