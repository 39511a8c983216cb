"""One worker: its own sockets, its own zone, its own event loop; it ends when its supervisor does."""

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_dns.addresses import Address, listening_socket, raise_file_limit
from isthmus_dns.answer import Responder
from isthmus_dns.apex import ZoneSpec
from isthmus_dns.feed import ZoneFollower
from isthmus_dns.tcp import TcpLimits, TcpListener
from isthmus_dns.traffic import Report, Traffic, rcode_counts
from isthmus_dns.udp import UdpListener
from isthmus_dns.unusual import Features
from isthmus_dns.zone import Zone
from isthmus_kit.tasks import own_tasks

log = logging.getLogger(__name__)

_TICK = 1.0
_WAIT_FOR_ZONE = 5.0


class WorkerSpec(msgspec.Struct, frozen=True):
    """All that a worker is told."""

    feed: str
    listen: tuple[Address, ...]
    zones: tuple[ZoneSpec, ...] = (ZoneSpec(),)
    ttl: int = 5
    stale_after: float = 60.0
    server_id: str = ""
    log_level: str = "info"
    late: bool = False
    """Others answer already: take a share of the queries only when the zone is known, or after five seconds."""


class Worker:
    """The parts of one worker, put together."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._clock = time.monotonic
        self.zone = Zone(spec.zones, spec.ttl, spec.ttl)
        self.responder = Responder(self.zone, Features(server_id=spec.server_id))
        self.traffic = Traffic()
        self.follower = ZoneFollower(self.responder, Path(spec.feed), spec.stale_after, self._clock)
        self._tcp: list[TcpListener] = []

    async def answer(self, report: Callable[[Report], None]) -> None:
        """Answer queries until cancelled; `report` hears of it once a second."""
        async with own_tasks() as tasks:
            tasks.start("zone feed", self.follower.follow())
            if self._spec.late:
                await self._zone_known()
            async with self._listening():
                tasks.start("tick", self._tick(report))
                await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        respond = self.responder.respond
        raise_file_limit()
        with ExitStack() as opened:
            for address in self._spec.listen:
                udp = UdpListener(listening_socket(address, socket.SOCK_DGRAM), respond, self.traffic, self._clock)
                udp.open(loop)
                opened.callback(udp.close)
                stream = listening_socket(address, socket.SOCK_STREAM)
                tcp = TcpListener(stream, respond, self.traffic, self._clock, TcpLimits())
                await tcp.open(loop)
                opened.callback(tcp.close)
                self._tcp.append(tcp)
            yield

    async def _zone_known(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_FOR_ZONE):
                await self.follower.known.wait()

    async def _tick(self, report: Callable[[Report], None]) -> None:
        while True:
            self.responder.now = int(time.time())
            self.follower.tick()
            for listener in self._tcp:
                listener.sweep()
            report(self._report())
            await asyncio.sleep(_TICK)

    def _report(self) -> Report:
        responder, freshness = self.responder, self.zone.freshness
        return Report(
            traffic=self.traffic,
            rcodes=rcode_counts(self.traffic, responder.nxdomain, responder.outcomes),
            connected=self.follower.connected,
            synced=freshness.synced,
            stale=freshness.stale,
            services=len(self.zone),
            serial=self.zone.serial,
            refused=self.follower.refused,
        )


async def _supervised(spec: WorkerSpec) -> None:
    """Answer until the supervisor closes our standard input, or a signal comes; report on standard output."""
    loop = asyncio.get_running_loop()
    worker = Worker(spec)
    encoder = msgspec.json.Encoder()
    output = sys.stdout.buffer

    def tell(report: Report) -> None:
        output.write(encoder.encode(report) + b"\n")
        output.flush()

    async with asyncio.TaskGroup() as group:
        answering = group.create_task(worker.answer(tell), name="worker")

        def stop() -> None:
            answering.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        # The supervisor writes nothing more: when this becomes readable it has ended, however it ended.
        loop.add_reader(sys.stdin.fileno(), stop)


def main() -> int:
    """`python -m isthmus_dns.worker`: the specification comes as one line of JSON on standard input."""
    from isthmus_kit.telemetry import setup_logging

    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerSpec)
    setup_logging(spec.log_level)
    status = 0
    try:
        asyncio.run(_supervised(spec))
    except* InvalidInput as wrong:
        log.error("worker cannot answer", extra={"reason": str(wrong.exceptions[0])})
        status = 2
    except* BrokenPipeError:
        pass  # the supervisor has ended, and so do we
    return status


if __name__ == "__main__":
    sys.exit(main())
