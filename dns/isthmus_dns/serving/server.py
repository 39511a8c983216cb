"""Run the DNS server of a cluster: check what it was told, start its workers, show their state."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus_core.errors import InvalidInput
from isthmus_dns.clients.subnet import SubnetMap, parse_networks, parse_place
from isthmus_dns.feeding.feed import check_feed_path
from isthmus_dns.listening.addresses import Address, claim_addresses, parse_address
from isthmus_dns.listening.tcp import TcpLimits
from isthmus_dns.serving.ahead import Ahead
from isthmus_dns.serving.supervisor import Supervisor
from isthmus_dns.serving.worker import Worker, WorkerSpec
from isthmus_dns.watching.traffic import Report
from isthmus_dns.zone.apex import ZoneSpec
from isthmus_dns.zone.zone import Zone
from isthmus_kit.readiness import Readiness
from isthmus_kit.tasks import own_tasks

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger(__name__)

MOST_WORKERS = 64
LONGEST_TTL = 86400


async def run(
    *,
    feed: Path,
    listen: Sequence[str] = ("127.0.0.1:53",),
    workers: int = 1,
    zones: Sequence[ZoneSpec] = (ZoneSpec(),),
    ttl: int = 5,
    stale_after: float = 60.0,
    web: str = "",
    server_id: str = "",
    cookie_secret: bytes = b"",
    rate_limit: int = 1000,
    subnet_resolvers: Sequence[str] = (),
    subnet_localities: Sequence[str] = (),
    tcp: TcpLimits = TcpLimits(),  # noqa: B008 - frozen
    dnstap: str = "",
    log_queries: int = 0,
    log_level: str = "info",
    started: Callable[[tuple[Address, ...], int], None] | None = None,
    ahead: Ahead | None = None,
) -> None:
    """Answer DNS until cancelled.

    `feed` is the agent's unix socket, `listen` has IP:PORT each (UDP and TCP), `workers` processes share them (0:
    answer in this process), `web` is where /healthz, /readyz and /metrics are. `started` hears the real addresses, and
    the real port of `web`. `cookie_secret` (16 bytes) is shared by servers behind one address, and is random without;
    `rate_limit` is answers a second and prefix to addresses that are not private; `subnet_resolvers` may say for which
    clients they ask (RFC 7871), and `subnet_localities` (NETWORK=provider/region/zone) where those are; `dnstap` is a
    receiver's unix socket; every `log_queries`-th query is logged; `ahead` are workers that wait already. Raises
    InvalidInput for what cannot be used.
    """
    _check(workers, ttl, listen, cookie_secret, subnet_resolvers)
    SubnetMap(map(parse_place, subnet_localities))
    check_feed_path(feed)
    Zone(zones, ttl)  # says what is wrong with the zones before any process starts
    spec = WorkerSpec(
        feed=str(feed.absolute()),
        listen=claim_addresses(parse_address(text) for text in listen),
        zones=tuple(zones),
        ttl=ttl,
        stale_after=stale_after,
        server_id=server_id,
        cookie_secret=cookie_secret or secrets.token_bytes(16),
        rate_limit=rate_limit,
        subnet_resolvers=tuple(subnet_resolvers),
        subnet_localities=tuple(subnet_localities),
        tcp=tcp,
        dnstap=dnstap,
        log_queries=log_queries,
        log_level=log_level,
    )
    try:
        await _serve(spec, workers, web, started, ahead)
    except BaseExceptionGroup as group:
        told: BaseException | None = group.subgroup(InvalidInput)
        while isinstance(told, BaseExceptionGroup):
            told = told.exceptions[0]
        if told is None:
            raise
        raise told from group


def _check(
    workers: int, ttl: int, listen: Sequence[str], cookie_secret: bytes, subnet_resolvers: Sequence[str]
) -> None:
    """Raise InvalidInput for the first argument that cannot be used."""
    if not 0 <= workers <= MOST_WORKERS:
        raise InvalidInput(f"{workers} DNS workers is not a number from 0 to {MOST_WORKERS}")
    if not 0 <= ttl <= LONGEST_TTL:
        raise InvalidInput(f"a time to live of {ttl} seconds is not a number from 0 to {LONGEST_TTL}")
    if not listen:
        raise InvalidInput("the DNS server has no address to listen on", "Give at least one IP:PORT.")
    if cookie_secret and len(cookie_secret) != 16:
        raise InvalidInput("the secret of DNS cookies does not have 16 bytes", "Give 32 hexadecimal digits.")
    parse_networks(subnet_resolvers)


async def _serve(
    spec: WorkerSpec,
    workers: int,
    web: str,
    started: Callable[[tuple[Address, ...], int], None] | None,
    ahead: Ahead | None,
) -> None:
    board = Board(workers)
    where = parse_address(web) if web else None
    async with own_tasks() as tasks:
        if workers:
            supervisor = Supervisor(spec, workers, board.take, ahead)
            board.restarts = lambda: supervisor.restarts
            running = tasks.start("workers", supervisor.keep())
        else:
            running = tasks.start("worker", Worker(spec).answer(lambda report: board.take("0", report)))
        async with _state(where, board) as port:
            log.info("DNS answers", extra={"addresses": [str(address) for address in spec.listen], "workers": workers})
            if started is not None:
                started(spec.listen, port)
            await running


@asynccontextmanager
async def _state(where: Address | None, board: "Board") -> AsyncIterator[int]:
    if where is None:
        yield 0
        return
    # Beside the workers that are starting: the HTTP library takes as long to import as they to start.
    web = await asyncio.to_thread(import_module, "isthmus_dns.serving.web")
    async with web.serving_state(where, board.readiness, board.collect, board.reports.values) as port:
        yield port


class Board:
    """What the workers said last: readiness and metrics are read from it."""

    def __init__(self, workers: int) -> None:
        self.reports: dict[str, Report] = {}
        self.readiness = Readiness(*(f"worker {number}" for number in range(max(1, workers))))
        self.restarts: Callable[[], int] = lambda: 0

    def take(self, worker: str, report: Report | None) -> None:
        """Note a worker's report; None when it ended."""
        part = f"worker {worker}"
        if report is None:
            self.reports.pop(worker, None)
            self.readiness.set(part, ok=False, why="ended, is started again")
            return
        self.reports[worker] = report
        self.readiness.set(part, ok=report.synced, why="has no full state of the zone yet")
        self.readiness.warn(f"feed of {part}", "" if report.connected else "the gateway's agent is away")
        self.readiness.warn(f"freshness of {part}", "answers are marked as stale" if report.stale else "")

    def collect(self) -> Iterable["Metric"]:
        """The metrics of all workers."""
        from isthmus_dns.watching.metrics import metrics  # whoever asks for them has imported Prometheus

        return metrics(self.reports, self.restarts())
