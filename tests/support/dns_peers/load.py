"""Run the load of the bench on a core of its own, and read what it found."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from support.dns_peers.running import LOAD_CORE, Running, end, start

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "dns_load.py"
SOCKETS = 4
WINDOW = 128
"""Queries under way: dnsperf's usual hundred, and what fits the smallest receive buffer of the servers."""

LONGEST = 120.0


class Flood(msgspec.Struct, frozen=True):
    """Answers a second after warming up; all answers; queries without one; batches that began with a failure."""

    rate: float
    answers: int
    lost: int
    failed: int


class Pace(msgspec.Struct, frozen=True):
    """What an open loop found; `seen` are the new addresses of the watched name with the time of the first answer."""

    sent: int
    answers: int
    failed: int
    p50_us: float
    p99_us: float
    calm_p99_us: float
    """The median of the p99 of each tenth of a second."""
    seen: list[tuple[str, float]]

    @property
    def lost(self) -> int:
        return self.sent - self.answers


class Broken(Exception):
    """A server of the bench failed or refused what it should have answered; its figures would be no comparison."""


async def flood(
    server: Running, queries: Path, seconds: float, sockets: int = SOCKETS, window: int = WINDOW
) -> tuple[Flood, float]:
    """As many queries as come back; also the server's processor time for each, in microseconds."""
    before = server.cpu_seconds
    printed = await _run(server, "flood", str(seconds), str(queries), str(sockets), str(window))
    found = msgspec.json.decode(printed, type=Flood)
    spent = server.cpu_seconds - before
    if found.failed or not found.answers:
        raise Broken(f"{server.name}: {found}")
    return found, spent / found.answers * 1e6


async def pace(
    server: Running, queries: Path, rate: float, seconds: float, nap: float = 0.0, watch: bytes = b""
) -> Pace:
    """So many queries a second, whatever comes back; sleeps `nap` seconds when nothing is due (0: spins)."""
    async with pacing(server, queries, rate, nap, watch) as found:
        await asyncio.sleep(seconds)
    return found.result()


@asynccontextmanager
async def pacing(
    server: Running, queries: Path, rate: float, nap: float, watch: bytes = b""
) -> AsyncIterator[asyncio.Future[Pace]]:
    """So many queries a second while the block runs; what they found is there after it."""
    found = asyncio.get_running_loop().create_future()
    arguments = (str(LONGEST), str(queries), str(rate), str(nap), *([watch.hex()] if watch else []))
    async with _started(server, "pace", *arguments) as process:
        yield found
        process.terminate()
        run = msgspec.json.decode(await _printed(server, process), type=Pace)
        if run.failed:
            raise Broken(f"{server.name}: {msgspec.structs.replace(run, seen=[])}")
        found.set_result(run)


async def _run(server: Running, mode: str, *arguments: str) -> bytes:
    async with _started(server, mode, *arguments) as process:
        return await _printed(server, process)


@asynccontextmanager
async def _started(server: Running, mode: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, str(SCRIPT), mode, server.host, str(server.port), *arguments)
    process = await start((LOAD_CORE,), *command, stdout=asyncio.subprocess.PIPE, stderr=None)
    try:
        yield process
    finally:
        await end(process)


async def _printed(server: Running, process: asyncio.subprocess.Process) -> bytes:
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise Broken(f"{server.name}: the load ended with {process.returncode}")
    return output
