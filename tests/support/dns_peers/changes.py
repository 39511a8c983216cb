"""Rows: how soon a change of the feed is in the answers while 50,000 queries a second come, and whether any is lost."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from support.bench import Row, percentile
from support.dns_peers.content import SERVICES, name_of
from support.dns_peers.load import Broken, pacing
from support.dns_peers.running import Running
from unit.nameserver.builders import Feed, question, service

RATE = 50_000
NAP = 0.0002
WATCHED = question(name_of(0)).to_wire()
LEAD = 0.7  # seconds until the load runs evenly
SAMPLES = 300
APART = 0.02
CHURN = 1000
CHURN_SECONDS = 4.0
UNSEEN = 1000.0
"""Milliseconds that a change counts which was in no answer before the next one was."""


def fresh(number: int) -> str:
    return f"10.99.{number >> 8}.{number & 255}"


def delays(published: Mapping[str, float], seen: Iterable[tuple[str, float]]) -> list[float]:
    """Milliseconds from each change to the first answer with it; the load sees addresses of before, too."""
    first: dict[str, float] = {}
    for address, when in seen:
        first.setdefault(address, when)
    return [(first[address] - when) * 1000 if address in first else UNSEEN for address, when in published.items()]


async def one_by_one(server: Running, feed: Feed, queries: Path) -> list[Row]:
    published: dict[str, float] = {}
    async with pacing(server, queries, RATE, NAP, WATCHED) as load:
        await asyncio.sleep(LEAD)
        for number in range(SAMPLES):
            published[fresh(number)] = time.perf_counter()
            feed.publish([service("ns0/svc0", [fresh(number)])])
            await asyncio.sleep(APART)
        await asyncio.sleep(LEAD)
    found = delays(published, load.result().seen)
    name = f"change to new answer under {RATE:,} queries/s"
    return [
        Row.at_most(f"{name}, p50", percentile(found, 50), "ms", 3),
        Row.at_most(f"{name}, p99", percentile(found, 99), "ms", 10),
    ]


async def churn(server: Running, feed: Feed, queries: Path) -> list[Row]:
    """1,000 changes a second, one publication each, of services all over the zone."""
    total = int(CHURN * CHURN_SECONDS)
    async with pacing(server, queries, RATE, NAP, WATCHED) as load:
        await asyncio.sleep(LEAD)
        done, began = 0, time.perf_counter()
        while done < total:
            due = min(total, int((time.perf_counter() - began) * CHURN))
            for number in range(done, due):
                # Service 0 is the last one that changes, and is the one that the load watches.
                which = 0 if number == total - 1 else 1 + number % (SERVICES - 1)
                feed.publish([service(f"ns{which % 20}/svc{which}", [fresh(number)])])
                await asyncio.sleep(0)
            done = max(done, due)
            await asyncio.sleep(0.0005)
        ended = time.perf_counter()
        await asyncio.sleep(LEAD)
    run = load.result()
    last = [when for address, when in run.seen if address == fresh(total - 1)]
    if not last:
        raise Broken(f"the last of {total} changes was in no answer")
    name = f"{total / (ended - began):,.0f} changes/s under {RATE:,} queries/s"
    return [
        Row.at_most(f"{name}: lost of {run.sent:,}", run.lost, "queries", 0),
        Row.noted(f"{name}: the last change in an answer after", (last[0] - ended) * 1000, "ms"),
        Row.noted(f"{name}: p99 of all answers", run.p99_us / 1000, "ms"),
    ]
