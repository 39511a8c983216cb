"""How a tunnel ends, and what it holds for a client that does not read (docs/decisions/0008)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from integration.envoy.far_service import TCP_CHECK, healthy_at_b, publish_far
from isthmus_core.model import AppProtocol
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair


@asynccontextmanager
async def answering_and_closing(address: str) -> AsyncIterator[tuple[str, int]]:
    """A server that sends as many bytes as the first line asks for, and closes the connection at once."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readline()
        writer.write(b"x" * int(asked or b"0"))  # a health check asks for nothing
        writer.close()

    async with await asyncio.start_server(answer, address, 0) as server:
        yield address, server.sockets[0].getsockname()[1]


async def fetched(vip: str, size: int, slowly: bool) -> int:
    """How many of `size` bytes arrive before the end of the connection; a reset counts as -1."""
    reader, writer = await asyncio.open_connection(vip, 8080)
    writer.write(b"%d\n" % size)
    arrived = 0
    try:
        while content := await reader.read(65536):
            arrived += len(content)
            if slowly and arrived < 4_000_000:
                await asyncio.sleep(0.005)
    except ConnectionError:
        return -1
    finally:
        writer.close()
    return arrived


@pytest.mark.anyio
async def test_everything_arrives_from_a_tcp_server_that_answers_and_closes(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    """The commonest way to end a connection: what was sent before must not be lost, not even to a slow client."""
    pair = Pair(tmp_path, loopback_net)
    async with answering_and_closing(loopback_net.next()) as where, pair.running():
        publish_far(pair, "dump", where, AppProtocol.TCP, TCP_CHECK)
        await healthy_at_b(pair, "dump")
        async with asyncio.timeout(60):
            for size, times in ((10, 20), (100_000, 10), (10_000_000, 4)):
                for turn in range(times):
                    assert await fetched(pair.vip, size, slowly=turn % 2 == 1) == size


@pytest.mark.anyio
async def test_clients_that_do_not_read_hold_nobody_else_up(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    """All tunnels share a connection, and its window: what is kept for them must not be all of it."""
    pair = Pair(tmp_path, loopback_net)
    async with answering_and_closing(loopback_net.next()) as where, pair.running():
        publish_far(pair, "dump", where, AppProtocol.TCP, TCP_CHECK)
        await healthy_at_b(pair, "dump")
        stuck = []
        try:
            async with asyncio.timeout(20):
                for _ in range(4):
                    reader, writer = await asyncio.open_connection(pair.vip, 8080, limit=1)  # reads a few bytes ahead
                    stuck.append(writer)
                    writer.write(b"100000000\n")
                    await reader.read(1)
                for _ in range(10):
                    assert await fetched(pair.vip, 10_000, slowly=False) == 10_000
        finally:
            for writer in stuck:
                writer.transport.abort()
