"""Tunnels share a connection, so what one client does must not end those of others."""

import asyncio
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.envoy.far_service import TCP_CHECK, healthy_at_b, publish_far
from integration.envoy.ingress_frames import PREFACE, ask_ingress, connect_frame, reset_frame, status_of
from isthmus_core.model import AppProtocol
from isthmus_gateway.resources.flow import TUNNELS_A_CONNECTION
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair
from support.waiting import eventually

CLIENTS = 1_500
"""Envoy's own limits are 250 streams reset before they were answered, and 1,000 reset at all."""

TALKERS, WORDS = 120, 2000
"""Together they say more than the 10,000 frames that Envoy would hold for a connection before it closes it."""

STANDS_STILL_S = 1.65
"""Shorter than the pings' patience (2 s). The kernel's is 1.5 s, from the moment in which the window is full."""


@pytest.mark.anyio
async def test_many_clients_that_go_away_at_once_leave_the_shared_connection_open(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")
    with backend:
        async with pair.running():
            publish_far(pair, "lines", where, AppProtocol.TCP, TCP_CHECK)
            await healthy_at_b(pair, "lines")
            authority = "lines.shop.svc.clusterset.local:8080"
            gone = range(1, 2 * CLIENTS, 2)
            request = PREFACE + b"".join(connect_frame(authority, n) + reset_frame(n) for n in gone)
            last = 2 * CLIENTS + 1
            answer = await ask_ingress(pair, pair.world.identity("a"), request + connect_frame(authority, last), last)
            assert status_of(answer, last) == 200
            counts = await pair.b.admin.stats(r"^http\.ingress\.downstream_rq_rx_reset$")
            assert counts["http.ingress.downstream_rq_rx_reset"] >= CLIENTS


@pytest.mark.anyio
async def test_many_small_messages_to_a_gateway_that_stands_still_end_nothing(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")
    loop = asyncio.get_running_loop()
    with backend:
        async with pair.running():
            publish_far(pair, "lines", where, AppProtocol.TCP, TCP_CHECK)
            await healthy_at_b(pair, "lines")
            with ExitStack() as opened:
                talkers = [opened.enter_context(socket.socket()) for _ in range(TALKERS)]
                for talker in talkers:
                    talker.setblocking(False)
                    await loop.sock_connect(talker, (pair.vip, 8080))
                    talker.send(b"hello\n")
                    assert await loop.sock_recv(talker, 100) == b"far hello\n"
                with pair.b.frozen():
                    until = loop.time() + 1.4
                    for _ in range(WORDS):
                        for talker in talkers:
                            talker.send(b"x")
                        await asyncio.sleep(0.002)
                        if loop.time() > until:
                            break
                async with asyncio.timeout(10):
                    for talker in talkers:
                        talker.send(b"\n")
                        answer = b""
                        while not answer.endswith(b"\n"):
                            answer += await loop.sock_recv(talker, 1000) or b"END\n"
                        assert answer.startswith(b"far xx") and answer.endswith(b"x\n")


@pytest.mark.anyio
async def test_an_upload_to_a_gateway_that_stands_still_goes_on(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    """Linux counts a window that stays full as silence (TCP_USER_TIMEOUT), although the peer's kernel acknowledges."""
    pair, where, arrived = Pair(tmp_path, loopback_net), (loopback_net.next(), 9001), 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        while content := await reader.read(1 << 18):
            arrived += len(content)
        writer.close()

    async def upload() -> None:
        _, writer = await asyncio.open_connection(pair.vip, 8080)
        try:
            while True:
                writer.write(bytes(1 << 17))
                await writer.drain()
                await asyncio.sleep(0.005)
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(take, *where), pair.running():
        publish_far(pair, "uploads", where, AppProtocol.TCP, TCP_CHECK)
        await healthy_at_b(pair, "uploads")
        async with asyncio.TaskGroup() as group:
            uploading = group.create_task(upload(), name="upload")
            await eventually(lambda: arrived > 4_000_000, 10)
            with pair.b.frozen():
                await asyncio.sleep(STANDS_STILL_S)
            enough = arrived + 20_000_000  # more than can have been on the way
            await eventually(lambda: arrived > enough, 10)
            uploading.cancel()


@pytest.mark.anyio
async def test_tunnels_that_need_another_connection_wait_for_a_gateway_that_stands_still(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")

    async def echoed() -> bytes:
        reader, writer = await asyncio.open_connection(pair.vip, 8080)
        try:
            writer.write(b"hello\n")
            return await reader.readline()
        finally:
            writer.transport.abort()

    with backend:
        async with pair.running(), asyncio.timeout(20), asyncio.TaskGroup() as group:
            publish_far(pair, "lines", where, AppProtocol.TCP, TCP_CHECK)
            await healthy_at_b(pair, "lines")
            with pair.b.frozen():
                waiting = [group.create_task(echoed(), name=f"client {n}") for n in range(3 * TUNNELS_A_CONNECTION)]
                await asyncio.sleep(1.2)
    assert Counter(task.result() for task in waiting) == {b"far hello\n": len(waiting)}
