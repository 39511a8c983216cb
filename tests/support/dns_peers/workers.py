"""Rows: two workers that share a port against one of them."""

from contextlib import AsyncExitStack
from pathlib import Path

from support.bench import Row, median
from support.dns_peers.load import flood
from support.dns_peers.ours import worker
from support.dns_peers.running import CORES, LOAD_CORE, Running
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
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(worker(feed))]
            one.append(await _flooded(servers, queries))
            servers.append(await stack.enter_async_context(worker(feed, servers[0], CORES[1 % len(CORES)])))
            two.append(await _flooded(servers, queries))
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


async def _flooded(servers: list[Running], queries: Path) -> tuple[float, float]:
    before = sum(server.cpu_seconds for server in servers)
    run, _ = await flood(servers[0], queries, SECONDS, SOCKETS, WINDOW)
    return run.rate, (sum(server.cpu_seconds for server in servers) - before) / run.answers * 1e6
