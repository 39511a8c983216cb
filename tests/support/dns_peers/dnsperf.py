"""Rows: the same mix by dnsperf, the load that others use, so that ours is not the only witness.

dnsperf asks all of its queries with EDNS or none of them, and needs more of its core for a query than some servers of
theirs: so it is the control, and not what the figures are held to.
"""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import dns.message
import dns.rdatatype

from support.bench import Row, median
from support.dns_peers.load import WINDOW, Broken
from support.dns_peers.running import LOAD_CORE, Running, end, start

SECONDS = 2
ROUNDS = 2


def write_names(path: Path, queries: Sequence[bytes]) -> Path:
    """The queries as dnsperf reads them: a name and a type a line."""
    asked = [dns.message.from_wire(query).question[0] for query in queries]
    path.write_text("".join(f"{one.name} {dns.rdatatype.to_text(one.rdtype)}\n" for one in asked))
    return path


def rate_in(output: str) -> float:
    """Queries a second, if it found hardly any that were lost."""
    rate = re.search(r"Queries per second: +([0-9.]+)", output)
    lost = re.search(r"Queries lost: +\d+ \(([0-9.]+)%\)", output)
    if not rate or not lost or float(lost[1]) > 0.5:
        raise Broken(f"dnsperf has no figure: {output[-500:]}")
    return float(rate[1])


async def rows(program: str, servers: Sequence[Running], names: Path) -> list[Row]:
    runs: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(ROUNDS):
        for edns in ((), ("-e",)):
            for server in servers:
                runs[server.name].append(await _asked(program, server, names, edns))
    rates = {name: median(one) for name, one in runs.items()}
    ours, *others = servers
    name = "one worker, mix, by dnsperf"
    return [Row.noted(name, rates[ours.name], "queries/s").beside(peer.name, rates[peer.name]) for peer in others]


async def _asked(program: str, server: Running, names: Path, edns: Sequence[str]) -> float:
    where = ("-s", server.host, "-p", str(server.port), "-d", str(names), "-l", str(SECONDS))
    command = (program, *where, "-c", "4", "-q", str(WINDOW), *edns)
    process = await start((LOAD_CORE,), *command, stdout=asyncio.subprocess.PIPE, stderr=None)
    try:
        output, _ = await process.communicate()
    finally:
        await end(process)
    return rate_in(output.decode(errors="replace"))
