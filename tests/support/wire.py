"""A wire between two hosts that is long or narrow, and how long those who use it wait: for it, and for each other."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import relay
from support.hosts import connect
from support.netns import Host, Network
from support.process import Process

RELAY = Path(relay.__file__)


@contextmanager
def slow_wire(network: Network, target: Host, folder: Path, delay: float) -> Iterator[Host]:
    """A host that carries tunnels to the target's gateway, so many seconds each way."""
    wire = network.host("wire")
    command = wire.command(sys.executable, RELAY, wire.address, "15443", target.address, "15443", str(delay))
    with Process(command, folder / "wire.log", shared=True) as program:
        program.wait_for_line("carrying")
        yield wire


@contextmanager
def narrow_wire(host: Host, megabit: int) -> Iterator[None]:
    """In the block, what this host sends to others leaves it at so many megabits a second (tc-tbf(8))."""
    host.queue("add", "dev", "eth0", "root", *f"tbf rate {megabit}mbit burst 64kb limit 100kb".split())
    try:
        yield
    finally:
        host.queue("del", "dev", "eth0", "root")


async def first_byte(host: Host, address: tuple[str, int], said: bytes) -> float:
    """How long a new client on this host waits for the first byte of an answer, in seconds."""
    started = time.monotonic()
    reader, writer = await connect(host, address)
    try:
        writer.write(said)
        assert await reader.read(1)
    finally:
        writer.close()
    return time.monotonic() - started


class Transfer:
    """A bulk transfer of a client on this host to a server that echoes lines, without an end; `echoed` bytes so far."""

    def __init__(self, host: Host, address: tuple[str, int]) -> None:
        self.echoed = 0
        self._host = host
        self._address = address

    async def run(self) -> None:
        line = b"x" * 65_000 + b"\n"
        reader, writer = await connect(self._host, self._address)
        try:
            writer.write(line * 16)  # enough to keep the wire busy, and each client has them come back as they go
            while content := await reader.read(1 << 18):
                self.echoed += len(content)
                writer.write(line * content.count(b"\n"))
        finally:
            writer.transport.abort()


async def waits(host: Host, address: tuple[str, int], name: str, count: int) -> list[float]:
    """How long requests on one connection wait for the answer of the backend of this name, in seconds."""
    reader, writer = await connect(host, address)
    took = []
    for _ in range(count):
        started = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\nHost: e\r\n\r\n")
        await reader.readuntil(name.encode())
        took.append(time.monotonic() - started)
        await asyncio.sleep(0.02)
    writer.close()
    return took
