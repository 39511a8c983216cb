"""A request never meets an endpoint that is just closing the connection on which it comes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from integration.envoy.far_service import TCP_CHECK, healthy_at_b, publish_far
from isthmus_core.model import AppProtocol
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair, service_of
from support.waiting import eventually

KEEP_ALIVE = 5.0
"""Of Node, uvicorn, Apache: nothing that is common keeps connections for less, but gunicorn with threads (2 s)."""


@asynccontextmanager
async def closing_when_idle(address: str) -> AsyncIterator[tuple[str, int]]:
    """An HTTP/1.1 server to which a request on a connection that was idle for almost its keep-alive comes too late."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered = time.monotonic()
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if time.monotonic() - answered > KEEP_ALIVE - 0.6:
                    writer.transport.abort()  # what a kernel answers to bytes for a socket that was closed
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                answered = time.monotonic()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, address, 0) as server:
        yield address, server.sockets[0].getsockname()[1]


@pytest.mark.anyio
async def test_a_post_does_not_meet_an_endpoint_that_closes_its_idle_connections(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    async with closing_when_idle(loopback_net.next()) as where, pair.running():
        publish_far(pair, "far", where, AppProtocol.HTTP, TCP_CHECK)
        await healthy_at_b(pair, "far")
        pair.a.serve(pair.vip, service_of("near", [where], AppProtocol.HTTP, check=TCP_CHECK, port=8081))
        await pair.a.serving("egress/shop/near/8081")

        async with aiohttp.ClientSession() as session:

            async def post(port: int) -> int:
                async with session.post(f"http://{pair.vip}:{port}/") as answer:
                    return answer.status

            async def healthy() -> bool:
                return await post(8081) == 200

            await eventually(healthy, 10)
            assert [await post(port) for port in (8080, 8081)] == [200, 200]
            await asyncio.sleep(KEEP_ALIVE - 0.4)
            assert [await post(port) for port in (8080, 8081)] == [200, 200]
