"""A load of HTTP/1.1 GETs from a process of its own, over raw sockets; prints one JSON object.

  http_load.py open   ADDRESS PORT RATE SECONDS [METHOD]   sends on schedule, whatever comes back; every request listed
  http_load.py closed ADDRESS PORT CONNECTIONS SECONDS     each connection sends after its answer came; a summary
  http_load.py turns  SECONDS ADDRESS PORT ...             one connection to each, asked in turns; the median of each

A request of the open load has the time it was due, the time its answer was complete (CLOCK_MONOTONIC, seconds) and the
answer's body, or what went wrong.
"""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from typing import cast

GIVE_UP_S = 10.0


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] | None = None
        self.pending = b""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, content: bytes) -> None:
        self.pending += content
        head, end, rest = self.pending.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].partition(b"\r\n")[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        self.pending = rest[length:]
        status = head[9:12]
        said = rest[:length].decode(errors="replace")
        self._finish(said if status == b"200" else f"status {status.decode()}: {said}")

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._finish(f"closed: {error}")

    def _finish(self, outcome: str) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(outcome)

    def send(self, request: bytes) -> asyncio.Future[str]:
        self.answer = asyncio.get_running_loop().create_future()
        if self.closed:
            self.answer.set_result("closed before sending")
        else:
            self.transport.write(request)
        return self.answer


async def open_load(address: str, port: int, rate: float, seconds: float, method: str) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    idle: list[Connection] = []
    records: list[tuple[float, float, str]] = []
    request = f"{method} / HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n".encode()

    async def one(due: float) -> None:
        connection = None
        try:
            async with asyncio.timeout(GIVE_UP_S):
                while idle and connection is None:
                    candidate = idle.pop()
                    connection = None if candidate.closed else candidate
                if connection is None:
                    _, connection = await loop.create_connection(Connection, address, port)
                outcome = await connection.send(request)
            if not connection.closed:
                idle.append(connection)
        except TimeoutError:
            outcome = "timeout"
        except OSError as error:
            outcome = f"connect: {error.strerror}"
        records.append((due, time.monotonic(), outcome))

    print("started", file=sys.stderr, flush=True)
    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = start + number / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(due), name=f"request {number}")
    for connection in idle:
        connection.transport.close()
    return {"records": sorted(records)}


async def closed_load(address: str, port: int, connections: int, seconds: float) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    request = f"GET / HTTP/1.1\r\nhost: {address}\r\n\r\n".encode()
    latencies: list[float] = []
    wrong = 0
    sent_all = 0
    warm = time.monotonic() + min(0.5, seconds / 4)
    end = warm + seconds

    async def one() -> None:
        nonlocal wrong, sent_all
        _, connection = await loop.create_connection(Connection, address, port)
        while (sent := time.monotonic()) < end:
            outcome = await connection.send(request)
            sent_all += 1
            if outcome.startswith(("status", "closed")):
                wrong += 1
                if connection.closed:
                    _, connection = await loop.create_connection(Connection, address, port)
            elif sent >= warm:
                latencies.append(time.monotonic() - sent)
        connection.transport.close()

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(one(), name=f"connection {number}")
    latencies.sort()
    count = len(latencies)
    return {
        "rps": count / seconds,
        "requests": sent_all,
        "wrong": wrong,
        "p50_us": latencies[count // 2] * 1e6 if count else 0.0,
        "p99_us": latencies[count * 99 // 100] * 1e6 if count else 0.0,
    }


async def turns(seconds: float, targets: list[tuple[str, int]]) -> dict[str, object]:
    """Request by request in turns, so that whatever else happens on the machine happens to all of them."""
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(Connection, *target))[1] for target in targets]
    latencies: list[list[float]] = [[] for _ in targets]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for (address, _), connection, found in zip(targets, connections, latencies, strict=True):
            sent = time.monotonic()
            outcome = await connection.send(f"GET / HTTP/1.1\r\nhost: {address}\r\n\r\n".encode())
            found.append(time.monotonic() - sent)
            assert not outcome.startswith(("status", "closed")), outcome
    for connection in connections:
        connection.transport.close()
    return {"p50_us": [sorted(found)[len(found) // 2] * 1e6 for found in latencies]}


def main() -> None:
    import uvloop

    kind, address, port, *rest = sys.argv[1:]
    load: Coroutine[object, object, dict[str, object]]
    if kind == "turns":
        words = [port, *rest]
        targets = [(words[at], int(words[at + 1])) for at in range(0, len(words), 2)]
        load = turns(float(address), targets)
    elif kind == "open":
        load = open_load(address, int(port), float(rest[0]), float(rest[1]), rest[2] if len(rest) > 2 else "GET")
    else:
        load = closed_load(address, int(port), int(rest[0]), float(rest[1]))
    print(json.dumps(uvloop.run(load)))


if __name__ == "__main__":
    main()
