"""Requests that are with a backend when it dies are all answered by the next tier, however many they are."""

import asyncio
from pathlib import Path

import pytest

from isthmus_core.model import CheckKind, HealthCheck
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair, service_of
from support.waiting import eventually

MANY = 400


class Silent:
    """A backend that takes requests and says nothing, until it dies with all of them."""

    def __init__(self) -> None:
        self.writers: set[asyncio.StreamWriter] = set()
        self.heard = 0

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.heard += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def die(self) -> None:
        for writer in list(self.writers):
            writer.transport.abort()


async def answer(vip: str) -> bytes:
    """The first line of the answer, and who gave it."""
    reader, writer = await asyncio.open_connection(vip, 8080)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(30):
            content = await reader.read()
    finally:
        writer.close()
    return content.splitlines()[0] + b" " + content.splitlines()[-1]


@pytest.mark.anyio
async def test_hundreds_of_requests_survive_the_backend_they_are_with(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    silent = Silent()
    far, far_at = pair.backend("far")
    near_at = (loopback_net.next(), 9001)
    with far:
        async with await asyncio.start_server(silent.listen, *near_at, backlog=MANY) as server, pair.running():
            remote = service_of("echo", [far_at], locality="gcp/eu-west-4/b")
            pair.b.export(remote)
            local = service_of("echo", [near_at], locality="aws/eu-west-1/a", check=HealthCheck(CheckKind.TCP))
            pair.a.serve(pair.vip, local, [("b", remote)])
            await pair.a.serving("egress/shop/echo/8080")
            await eventually(lambda: any(pair.b.verdict("local/echo.shop.svc.clusterset.local:8080")), 20)
            async with asyncio.TaskGroup() as group:
                asking = [group.create_task(answer(pair.vip), name=f"request {number}") for number in range(MANY)]
                # Some are with `far` already, because nobody answered for a quarter of a second.
                await eventually(lambda: silent.heard >= MANY, 20)
                server.close()
                silent.die()
    answers = [task.result() for task in asking]
    assert [line for line in answers if not line.startswith(b"HTTP/1.1 200 OK far")] == []
