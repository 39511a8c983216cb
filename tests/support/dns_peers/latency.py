"""Rows: how long an answer takes at a rate that leaves the worker time, beside the peers in the same run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from support.bench import Row, median
from support.dns_peers.load import Pace, pace
from support.dns_peers.running import Running

RATE = 20_000
SECONDS = 2.0
NAP = 0.00005
ROUNDS = 5


async def rows(servers: Sequence[Running], queries: Path) -> list[Row]:
    """The first is ours; the others stand beside it, because a machine that stalls makes all of them late."""
    runs: dict[str, list[Pace]] = {server.name: [] for server in servers}
    for _ in range(ROUNDS):
        for server in servers:
            runs[server.name].append(await pace(server, queries, RATE, SECONDS, NAP))
    at = f"at {RATE:,} queries/s"
    p99 = _medians(runs, lambda run: run.p99_us / 1000)
    calm = _medians(runs, lambda run: run.calm_p99_us / 1000)
    p50 = _medians(runs, lambda run: run.p50_us)
    return [
        *_beside(Row.at_most(f"p99 {at}", p99[0], "ms", 1), servers, p99),
        *_beside(Row.at_most(f"p99 {at}, median of the tenths of a second", calm[0], "ms", 1), servers, calm),
        *_beside(Row.noted(f"p50 {at}", p50[0], "us"), servers, p50),
    ]


def _medians(runs: Mapping[str, Sequence[Pace]], figure: Callable[[Pace], float]) -> list[float]:
    return [median([figure(run) for run in one]) for one in runs.values()]


def _beside(row: Row, servers: Sequence[Running], figures: Sequence[float]) -> list[Row]:
    """The row beside the first other server, and the same figure without a target beside the rest."""
    first, *rest = zip(servers[1:], figures[1:], strict=True)
    noted = Row.noted(row.name, row.value, row.unit)
    return [row.beside(first[0].name, first[1]), *(noted.beside(peer.name, figure) for peer, figure in rest)]
