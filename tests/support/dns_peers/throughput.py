"""Rows: how many queries of the mix one worker answers a second, and what each costs it, beside the peers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from support.bench import Row, median
from support.dns_peers.load import flood
from support.dns_peers.running import Running

SECONDS = 1.5
ROUNDS = 5
UNIT = "queries/s"
TARGET = 150_000
BESIDE_BIND = 0.82
"""The target on any machine: it was set where BIND answered 183,000 queries/s."""

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
    listed = [Row.at_least("one worker, mix", rate, UNIT, TARGET).beside(floor, found[floor][0])]
    if "BIND" in found:
        listed.append(Row.ratio_at_least("one worker, mix", rate, UNIT, BESIDE_BIND, "BIND", found["BIND"][0]))
    if "CoreDNS" in found:
        listed.append(Row.ratio_at_least("one worker, mix", rate, UNIT, 3, "CoreDNS", found["CoreDNS"][0]))
    if "Knot" in found:
        listed.append(Row.noted("one worker, mix", rate, UNIT).beside("Knot", found["Knot"][0]))
    name = "processor time a query, saturated"
    if "BIND" in found:
        listed.append(Row.ratio_at_most(name, cost, "us", 1.5, "BIND", found["BIND"][1]))
    noted = [peer for peer in ("CoreDNS", "Knot", floor) if peer in found]
    return [*listed, *(Row.noted(name, cost, "us").beside(peer, found[peer][1]) for peer in noted)]
