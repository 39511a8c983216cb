"""Rows: two workers that share a port against one of them."""

from pathlib import Path

from support.bench import Row, median
from support.dns_peers.load import flood
from support.dns_peers.ours import served, spread
from support.dns_peers.running import CORES, LOAD_CORE
from unit.nameserver.builders import Feed

SECONDS = 1.5
ROUNDS = 3
SOCKETS = 64
"""The kernel gives each client's socket to one worker: many, so that both get about half."""
WINDOW = 256


async def rows(feed: Feed, queries: Path) -> list[Row]:
    one: list[tuple[float, float]] = []
    two: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        for workers, found in ((1, one), (2, two)):
            async with served(feed, workers) as server:
                await spread(server, CORES)
                run, cost = await flood(server, queries, SECONDS, SOCKETS, WINDOW)
                found.append((run.rate, cost))
    rates = (median([rate for rate, _ in two]), median([rate for rate, _ in one]))
    costs = (median([cost for _, cost in two]), median([cost for _, cost in one]))
    crowded = LOAD_CORE in CORES[:2]
    if crowded:
        name = "two workers, mix (two cores: the second has the load too)"
        return [Row.noted(name, rates[0], "queries/s").beside("one worker", rates[1])]
    return [
        Row.ratio_at_least("two workers, mix", rates[0], "queries/s", 1.7, "one worker", rates[1]),
        Row.noted("two workers, processor time a query", costs[0], "us").beside("one worker", costs[1]),
    ]
