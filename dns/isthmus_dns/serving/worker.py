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
import uvloop

from isthmus_core.errors import InvalidInput
from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.cookies import Cookies
from isthmus_dns.clients.ratelimit import RateLimiter
from isthmus_dns.clients.subnet import SubnetMap, parse_networks, parse_place
from isthmus_dns.feeding.feed import ZoneFollower
from isthmus_dns.listening.addresses import Address, listening_socket, raise_file_limit
from isthmus_dns.listening.mmsg import BatchedUdpListener, mmsg_available
from isthmus_dns.listening.tap import Dnstap, QueryLog
from isthmus_dns.listening.tcp import TcpLimits, TcpListener
from isthmus_dns.listening.udp import See, UdpListener
from isthmus_dns.watching.missing import in_vain, wanted
from isthmus_dns.watching.sketch import HeavyHitters
from isthmus_dns.watching.traffic import Report, Traffic, rcode_counts, type_counts
from isthmus_dns.zone.apex import ZoneSpec
from isthmus_dns.zone.zone import Zone
from isthmus_kit.tasks import own_tasks
from isthmus_kit.telemetry import setup_logging

log = logging.getLogger(__name__)

_TICK = 1.0
_FOLDS = 10
_WANTED = 500
_WANTED_TOLD = 50
_WAIT_FOR_ZONE = 5.0


class WorkerSpec(msgspec.Struct, frozen=True):
    """All that a worker is told."""

    feed: str
    listen: tuple[Address, ...]
    zones: tuple[ZoneSpec, ...] = (ZoneSpec(),)
    ttl: int = 5
    stale_after: float = 60.0
    server_id: str = ""
    cookie_secret: bytes = b""
    subnet_resolvers: tuple[str, ...] = ()
    subnet_localities: tuple[str, ...] = ()
    rate_limit: int = 0
    """Answers a second and prefix to clients outside of private networks; 0 for no limit."""
    tcp: TcpLimits = TcpLimits()
    dnstap: str = ""
    log_queries: int = 0
    """Log every n-th query; 0 for none."""
    log_level: str = "info"
    late: bool = False
    """Others answer already: take a share of the queries only when the zone is known, or after five seconds."""
    relay: int = -1
    """The descriptor of a socket where the supervisor tells a worker that is started again the zone; -1 for none."""


class Worker:
    """The parts of one worker, put together."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._clock = time.monotonic
        subnets = SubnetMap(map(parse_place, spec.subnet_localities))
        self.zone = Zone(spec.zones, spec.ttl, spec.ttl, subnets.places)
        features = Features(
            server_id=spec.server_id,
            cookies=Cookies(spec.cookie_secret) if spec.cookie_secret else None,
            subnet_resolvers=parse_networks(spec.subnet_resolvers),
            subnets=subnets,
        )
        self.responder = Responder(self.zone, features)
        self._hitters = HeavyHitters()
        self._types: dict[str, float] = {}
        self._missing = HeavyHitters(_WANTED)
        self._limiter = RateLimiter(spec.rate_limit, proven=self.responder.proves_address) if spec.rate_limit else None
        self._dnstap = Dnstap(Path(spec.dnstap), spec.server_id) if spec.dnstap else None
        self._query_log = QueryLog(spec.log_queries) if spec.log_queries else None
        self.traffic = Traffic()
        self.follower = ZoneFollower(self.responder, spec.stale_after, self._clock)
        self._tcp: list[TcpListener] = []

    async def answer(self, report: Callable[[Report], None]) -> None:
        """Answer queries until cancelled; `report` hears of it once a second."""
        async with own_tasks() as tasks:
            self.responder.tick(int(time.time()))
            tasks.start("zone feed", self._follow())
            if self._dnstap is not None:
                tasks.start("dnstap", self._dnstap.send())
            if self._spec.late:
                await self._zone_known()
            async with self._listening():
                tasks.start("tick", self._tick(report))
                tasks.once("ready", self._tell_ready(report))
                await asyncio.get_running_loop().create_future()

    async def _follow(self) -> None:
        if self._spec.relay >= 0:
            async with own_tasks() as tasks:
                tasks.once("relay", self.follower.follow_relay(socket.socket(fileno=self._spec.relay)))
                await self._zone_known()
        # Only now: gRPC takes its time to import, and the zone is known without it.
        from isthmus_dns.feeding.agent import follow_agent

        await follow_agent(Path(self._spec.feed), self.follower.subscribing)

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        respond, see = self.responder.respond, self._see()
        raise_file_limit()
        with ExitStack() as opened:
            for address in self._spec.listen:
                datagrams = listening_socket(address, socket.SOCK_DGRAM)
                kind = BatchedUdpListener if mmsg_available() else UdpListener
                udp = kind(datagrams, self.responder, self.traffic, self._clock, self._limiter, see)
                udp.open(loop)
                opened.callback(udp.close)
                stream = listening_socket(address, socket.SOCK_STREAM)
                tcp = TcpListener(stream, respond, self.traffic, self._clock, self._spec.tcp, see)
                await tcp.open(loop)
                opened.callback(tcp.close)
                self._tcp.append(tcp)
            yield

    def _see(self) -> See | None:
        """What looks at every query; None, which costs nothing, when nobody does."""
        eyes = [eye.see for eye in (self._dnstap, self._query_log) if eye is not None]
        if len(eyes) < 2:
            return eyes[0] if eyes else None

        def see(packet: bytes, response: bytes | None, client: str, port: int, tcp: bool) -> None:
            for eye in eyes:
                eye(packet, response, client, port, tcp)

        return see

    async def _zone_known(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_FOR_ZONE):
                await self.follower.known.wait()

    async def _tell_ready(self, report: Callable[[Report], None]) -> None:
        """Whoever waits for the zone to be known hears of it at once, not with the next report."""
        await self.follower.known.wait()
        report(self._report())

    async def _tick(self, report: Callable[[Report], None]) -> None:
        while True:
            self.responder.tick(int(time.time()))
            self.follower.tick()
            if self._limiter is not None:
                self._limiter.tick()
            self._hitters.tick(self._clock())
            self._missing.tick(self._clock())
            for listener in self._tcp:
                listener.sweep()
            report(self._report())
            for _ in range(_FOLDS):  # often, so that few questions wait to be counted
                await asyncio.sleep(_TICK / _FOLDS)
                asked = self.responder.take_asked()
                self._hitters.add(asked)
                type_counts(self._types, asked)
                self._missing.add(in_vain(asked, self.zone))

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
            types=self._types,
            top=tuple(self._hitters.top()),
            missing=tuple(wanted(self._missing.top(_WANTED_TOLD), self.zone)),
            withheld=self._limiter.withheld if self._limiter is not None else 0,
            slipped=self._limiter.slipped if self._limiter is not None else 0,
            untapped=self._dnstap.dropped if self._dnstap is not None else 0,
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


def serve(specification: bytes) -> int:
    """Serve what a specification in JSON says, until the supervisor ends; the exit status of the process."""
    spec = msgspec.json.decode(specification, type=WorkerSpec)
    setup_logging(spec.log_level)
    status = 0
    try:
        uvloop.run(_supervised(spec))  # a turn of its loop costs a quarter: what counts when every query comes alone
    except* InvalidInput as wrong:
        log.error("worker cannot answer", extra={"reason": str(wrong.exceptions[0])})
        status = 2
    except* BrokenPipeError:
        pass  # the supervisor has ended, and so do we
    return status
