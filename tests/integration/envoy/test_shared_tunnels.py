"""Tunnels share a connection, so what one client does must not end those of others."""

import asyncio
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.envoy.far_service import TCP_CHECK, healthy_at_b, publish_far
from integration.envoy.ingress_frames import PREFACE, ask_ingress, connect_frame, reset_frame, status_of
from isthmus_core.model import AppProtocol
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair

CLIENTS = 1_500
"""Envoy's own limits are 250 streams reset before they were answered, and 1,000 reset at all."""

TALKERS, WORDS = 120, 2000
"""Together they say more than the 10,000 frames that Envoy would hold for a connection before it closes it."""


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
                far = pair.b.process.running_pid()
                assert far is not None
                os.kill(far, signal.SIGSTOP)
                try:
                    until = loop.time() + 1.4
                    for _ in range(WORDS):
                        for talker in talkers:
                            talker.send(b"x")
                        await asyncio.sleep(0.002)
                        if loop.time() > until:
                            break
                finally:
                    os.kill(far, signal.SIGCONT)
                async with asyncio.timeout(10):
                    for talker in talkers:
                        talker.send(b"\n")
                        answer = b""
                        while not answer.endswith(b"\n"):
                            answer += await loop.sock_recv(talker, 1000) or b"END\n"
                        assert answer.startswith(b"far xx") and answer.endswith(b"x\n")
