"""Rows: how many queries of the mix one worker answers a second, and what each costs it, beside the peers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from support.bench import Row, median
from support.dns_peers.load import flood
from support.dns_peers.running import Running

SECONDS = 1.5
ROUNDS = 5
UNIT = "queries/s"

Found = Mapping[str, tuple[float, float]]
"""Queries a second and microseconds of processor time a query, by server: medians of the rounds."""


async def measure(servers: Sequence[Running], queries: Path) -> Found:
    """Each server in turn, several times over, so that a slow moment of the machine falls on all of them."""
    runs: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
    for _ in range(ROUNDS):
        for server in servers:
            run, cost = await flood(server, queries, SECONDS)
            runs[server.name].append((run.rate, cost))
    return {name: (median([rate for rate, _ in one]), median([cost for _, cost in one])) for name, one in runs.items()}


def rows(found: Found, ours: str, floor: str) -> list[Row]:
    rate, cost = found[ours]
    listed = [Row.at_least("one worker, mix", rate, UNIT, 150_000).beside(floor, found[floor][0])]
    if "CoreDNS" in found:
        listed.append(Row.ratio_at_least("one worker, mix", rate, UNIT, 3, "CoreDNS", found["CoreDNS"][0]))
    listed += [Row.noted("one worker, mix", rate, UNIT).beside(peer, found[peer][0]) for peer in _noted(found, "rate")]
    name = "processor time a query, saturated"
    if "BIND" in found:
        listed.append(Row.ratio_at_most(name, cost, "us", 1.5, "BIND", found["BIND"][1]))
    noted = [peer for peer in (*_noted(found, "cost"), floor) if peer in found]
    return [*listed, *(Row.noted(name, cost, "us").beside(peer, found[peer][1]) for peer in noted)]


def _noted(found: Found, figure: str) -> list[str]:
    """The peers that have no target in this figure."""
    return [peer for peer in (("BIND", "Knot") if figure == "rate" else ("CoreDNS", "Knot")) if peer in found]
