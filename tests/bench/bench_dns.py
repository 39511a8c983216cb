"""How our DNS worker stands beside BIND, CoreDNS and Knot, and how fast a change becomes an answer.

ISTHMUS_BENCH_ROWS=qps,p99 measures only these parts (tests/bench/README.md lists them).
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from support.bench import Row
from support.dns_peers import content, throughput
from support.dns_peers.ours import worker
from support.dns_peers.peers import PEERS, floor, peer, program
from support.dns_peers.probe import different
from support.dns_peers.running import Running
from unit.nameserver.builders import Feed, responder

NAME = "dns"
ROOT = Path(__file__).resolve().parents[2]
FLOOR = "bare loop"
PARTS = ("qps",)


def chosen() -> tuple[str, ...]:
    asked = tuple(filter(None, os.environ.get("ISTHMUS_BENCH_ROWS", "").split(",")))
    if unknown := set(asked) - set(PARTS):
        raise SystemExit(f"bench: ISTHMUS_BENCH_ROWS has {', '.join(sorted(unknown))}; the parts: {', '.join(PARTS)}")
    return asked or PARTS


@asynccontextmanager
async def everybody(folder: Path, feed: Feed) -> AsyncIterator[Sequence[Running]]:
    """Ours, the bare loop, and every peer that is there; all of them say the same."""
    services, queries = content.services(), content.mix()
    zone = content.write_zone(folder / "zone", services)
    pairs = folder / "floor"
    answers = responder(*services)
    pairs.write_text("".join(f"{query.hex()} {(answers.respond(query) or b'').hex()}\n" for query in queries))
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(worker(feed))]
        servers += [
            await stack.enter_async_context(peer(name, folder / name, zone))
            for name, (wanted, _, _) in PEERS.items()
            if program(wanted)
        ]
        for other in servers[1:]:
            if found := await asyncio.to_thread(different, servers[0], other, queries[:200]):
                raise RuntimeError(f"{other.name} answers {len(found)} of 200 questions otherwise, first: {found[0]}")
        servers.append(await stack.enter_async_context(floor(pairs)))
        yield servers


async def measure(folder: Path, parts: Sequence[str]) -> list[Row]:
    queries = content.write_queries(folder / "mix", content.mix())
    feed = Feed(folder / "zone.sock")
    feed.publish(content.services())
    rows: list[Row] = []
    async with feed.serving():
        if "qps" in parts:
            async with everybody(folder, feed) as servers:
                rows += throughput.rows(await throughput.measure(servers, queries), servers[0].name, FLOOR)
    return rows


def rows() -> list[Row]:
    parts = chosen()
    subprocess.run([sys.executable, str(ROOT / "tools" / "peers.py")], check=True)
    with TemporaryDirectory(prefix="isthmus-bench-dns-") as folder:
        return asyncio.run(measure(Path(folder), parts))
