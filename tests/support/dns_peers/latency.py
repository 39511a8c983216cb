"""Rows: how long an answer takes at a rate that leaves the worker time, beside the peers in the same run."""

from collections.abc import Sequence
from pathlib import Path

from support.bench import Row, median
from support.dns_peers.load import pace
from support.dns_peers.running import Running

RATE = 20_000
SECONDS = 2.0
ROUNDS = 5


async def rows(servers: Sequence[Running], queries: Path) -> list[Row]:
    """The first is ours; the others stand beside it, because a machine that stalls makes all of them late."""
    runs: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
    for _ in range(ROUNDS):
        for server in servers:
            run = await pace(server, queries, RATE, SECONDS)
            runs[server.name].append((run.p50_us, run.p99_us / 1000))
    ours, *others = servers
    p50 = {name: median([p50 for p50, _ in one]) for name, one in runs.items()}
    p99 = {name: median([p99 for _, p99 in one]) for name, one in runs.items()}
    name = "p99 at 20,000 queries/s"
    listed = [Row.at_most(name, p99[ours.name], "ms", 1).beside(others[0].name, p99[others[0].name])]
    listed += [Row.noted(name, p99[ours.name], "ms").beside(peer.name, p99[peer.name]) for peer in others[1:]]
    name = "p50 at 20,000 queries/s"
    return [*listed, *(Row.noted(name, p50[ours.name], "us").beside(peer.name, p50[peer.name]) for peer in others)]
