"""How our DNS worker stands beside BIND, CoreDNS and Knot, and how fast a change becomes an answer.

ISTHMUS_BENCH_ROWS=qps,p99 measures only these parts (README.md lists them).
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from support.bench import Row
from support.dns_peers import changes, content, dnsperf, latency, size, throughput, workers
from support.dns_peers.ours import served
from support.dns_peers.peers import PEERS, floor, peer, program
from support.dns_peers.probe import different
from support.dns_peers.running import LOAD_CORE, Running, foremost
from unit.nameserver.builders import Feed, responder

NAME = "dns"
ROOT = Path(__file__).resolve().parents[2]
FLOOR = "bare loop"
PARTS = ("qps", "dnsperf", "p99", "change", "churn", "workers", "large")
TOGETHER = {"qps", "dnsperf", "p99", "change", "churn"}
COMPARED = 300


def chosen() -> tuple[str, ...]:
    asked = tuple(filter(None, os.environ.get("ISTHMUS_BENCH_ROWS", "").split(",")))
    if unknown := set(asked) - set(PARTS):
        raise SystemExit(f"bench: ISTHMUS_BENCH_ROWS has {', '.join(sorted(unknown))}; the parts: {', '.join(PARTS)}")
    return asked or PARTS


@asynccontextmanager
async def everybody(folder: Path, feed: Feed, queries: Sequence[bytes]) -> AsyncIterator[dict[str, Running]]:
    """Ours, the bare loop, and every peer that is there; all of them say the same."""
    services = content.services()
    zone = content.write_zone(folder / "zone", services)
    pairs = folder / "floor"
    answers = responder(*services)
    pairs.write_text("".join(f"{query.hex()} {(answers.respond(query) or b'').hex()}\n" for query in queries))
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(served(feed))
        servers = {ours.name: ours, FLOOR: await stack.enter_async_context(floor(pairs))}
        for name, (wanted, _, _) in PEERS.items():
            if not program(wanted):
                continue
            servers[name] = await stack.enter_async_context(peer(name, folder / name, zone))
            if found := await asyncio.to_thread(different, ours, servers[name], queries[:COMPARED]):
                raise RuntimeError(f"{name} answers {len(found)} of {COMPARED} questions otherwise, first: {found[0]}")
        yield servers


async def together(folder: Path, feed: Feed, parts: Sequence[str]) -> list[Row]:
    """The parts that need the same zone in all servers."""
    queries = content.mix()
    mix = content.write_queries(folder / "mix", queries)
    listed: list[Row] = []
    async with everybody(folder, feed, queries) as servers:
        ours = next(iter(servers.values()))
        if "qps" in parts:
            listed += throughput.rows(await throughput.measure(list(servers.values()), mix), ours.name, FLOOR)
        if "dnsperf" in parts and (tool := program("dnsperf")):
            known = [servers[name] for name in (ours.name, "BIND", "CoreDNS", "Knot") if name in servers]
            listed += await dnsperf.rows(tool, known, dnsperf.write_names(folder / "names", queries))
        with foremost(*servers.values()):
            if "p99" in parts:
                known = [servers[name] for name in (ours.name, FLOOR, "BIND") if name in servers]
                listed += await latency.rows(known, mix)
            if "change" in parts:
                listed += await changes.one_by_one(ours, feed, mix)
            if "churn" in parts:
                listed += await changes.churn(ours, feed, mix)
    return listed


async def measure(folder: Path, parts: Sequence[str]) -> list[Row]:
    # The feed is ours to serve: it must not take its time from the server's core.
    os.sched_setaffinity(0, {LOAD_CORE})
    feed = Feed(folder / "zone.sock")
    feed.publish(content.services())
    listed: list[Row] = []
    async with feed.serving():
        if TOGETHER & set(parts):
            listed += await together(folder, feed, parts)
        if "workers" in parts:
            listed += await workers.rows(feed, content.write_queries(folder / "mix", content.mix()))
    if "large" in parts:
        listed += await size.rows(folder / "large")
    return [*listed, *absent()]


def absent() -> list[Row]:
    """What was not compared with, and why, so that a table of fewer rows explains itself."""
    return [Row.noted(f"{name} was not there to compare with", 0, "") for name in PEERS if not program(PEERS[name][0])]


def about() -> str:
    """What stood beside us, and how."""
    versions = {
        "BIND": ("named", "-v", r"BIND ([0-9.]+)"),
        "CoreDNS": ("coredns", "-version", r"CoreDNS-([0-9.]+)"),
        "Knot": ("knotd", "-V", r"version ([0-9.]+)"),
        "dnsperf": ("dnsperf", "-h", r"Version ([0-9.]+)"),
    }
    beside = ", ".join(f"{name} {version_of(*how) or '(not there)'}" for name, how in versions.items())
    return f"""Beside {beside}.
Server and load are held to one core each; everybody serves the same zone with one worker, and takes its turn several
times: figures are medians. The mix is 60 % A, 20 % AAAA, 5 % SRV, 10 % NXDOMAIN and 5 % NODATA, half with EDNS, over
1,000 services and 50 headless ones of ten endpoints. The bare loop answers the same bytes and does nothing else.
150,000 queries/s were asked for where BIND answered 183,000: 0.82 of BIND is the same target for any machine.
A start is that of the whole command, and nobody is held to a core there."""


def version_of(name: str, flag: str, pattern: str) -> str:
    found = program(name)
    if not found:
        return ""
    answer = subprocess.run([found, flag], capture_output=True, text=True, check=False)
    match = re.search(pattern, answer.stdout + answer.stderr)
    return match[1] if match else "?"


def rows() -> list[Row]:
    parts = chosen()
    subprocess.run([sys.executable, str(ROOT / "tools" / "peers.py")], check=True)
    with TemporaryDirectory(prefix="isthmus-bench-dns-") as folder:
        return asyncio.run(measure(Path(folder), parts))
