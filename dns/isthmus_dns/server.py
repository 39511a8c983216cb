"""Run the DNS server of a cluster: check what it was told, start its workers, show their state."""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from isthmus_core.errors import InvalidInput
from isthmus_dns.addresses import Address, claim_addresses, parse_address
from isthmus_dns.apex import ZoneSpec
from isthmus_dns.feed import check_feed_path
from isthmus_dns.supervisor import Supervisor
from isthmus_dns.traffic import Report, metrics
from isthmus_dns.worker import Worker, WorkerSpec
from isthmus_dns.zone import Zone
from isthmus_kit.readiness import Readiness
from isthmus_kit.tasks import own_tasks
from isthmus_kit.telemetry import new_registry
from isthmus_kit.web import make_app, serving

log = logging.getLogger(__name__)

MOST_WORKERS = 64


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
    log_level: str = "info",
    started: Callable[[tuple[Address, ...], int], None] | None = None,
) -> None:
    """Answer DNS until cancelled.

    `feed` is the agent's unix socket, `listen` has IP:PORT each (UDP and TCP), `workers` processes share them (0:
    answer in this process), `web` is where /healthz, /readyz and /metrics are. `started` hears the real addresses, and
    the real port of `web`. Raises InvalidInput where an argument cannot be used.
    """
    if not 0 <= workers <= MOST_WORKERS:
        raise InvalidInput(f"{workers} DNS workers is not a number from 0 to {MOST_WORKERS}")
    if not listen:
        raise InvalidInput("the DNS server has no address to listen on", "Give at least one IP:PORT.")
    check_feed_path(feed)
    Zone(zones, ttl)  # says what is wrong with the zones before any process starts
    spec = WorkerSpec(
        feed=str(feed.absolute()),
        listen=claim_addresses(parse_address(text) for text in listen),
        zones=tuple(zones),
        ttl=ttl,
        stale_after=stale_after,
        server_id=server_id,
        log_level=log_level,
    )
    board = Board(workers)
    async with _web(web, board) as port, own_tasks() as tasks:
        if workers:
            supervisor = Supervisor(spec, workers, board.take)
            board.restarts = lambda: supervisor.restarts
            running = tasks.start("workers", supervisor.keep())
        else:
            running = tasks.start("worker", Worker(spec).answer(lambda report: board.take("0", report)))
        log.info("DNS answers", extra={"addresses": [str(address) for address in spec.listen], "workers": workers})
        if started is not None:
            started(spec.listen, port)
        await running


class Board(Collector):
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

    def collect(self) -> Iterable[Metric]:
        """The metrics of all workers."""
        return metrics(self.reports, self.restarts())


@asynccontextmanager
async def _web(address: str, board: Board) -> AsyncIterator[int]:
    if not address:
        yield 0
        return
    registry: CollectorRegistry = new_registry()
    registry.register(board)
    where = parse_address(address)
    async with serving(make_app(board.readiness, registry), where.host, where.port) as port:
        yield port
