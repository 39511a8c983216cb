"""Rows: a zone of 100,000 names: how long from the start of a worker to its first answer, and what it holds."""

import os
import time
from pathlib import Path

from support.bench import Row, median
from support.dns_peers import content
from support.dns_peers.ours import served
from support.dns_peers.peers import PEERS, peer, program
from support.dns_peers.running import CORES
from unit.nameserver.builders import Feed

SERVICES = 33_400
"""Three names each: the service, its port's SRV name, and `_tcp` between them."""
ROUNDS = 3


async def rows(folder: Path) -> list[Row]:
    """Nobody is held to a core: how fast a server starts may depend on how many it has."""
    services = content.services(SERVICES, 0)
    folder.mkdir()
    feed = Feed(folder / "zone.sock")
    feed.publish(services)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    zone = content.write_zone(folder / "zone", services)
    os.sched_setaffinity(0, CORES)
    async with feed.serving():
        for number in range(ROUNDS):
            began = time.perf_counter()
            async with served(feed, cores=CORES) as running:
                ours.append((time.perf_counter() - began, running.resident_mb))
            if program(PEERS["BIND"][0]):
                began = time.perf_counter()
                async with peer("BIND", folder / f"bind-{number}", zone, CORES) as running:
                    theirs.append((time.perf_counter() - began, running.resident_mb))
    listed = [
        Row.at_most("100k names, start to ready", median([took for took, _ in ours]), "s", 2),
        Row.at_most("100k names, resident, a worker", median([held for _, held in ours]), "MB", 200),
    ]
    if not theirs:
        return listed
    figures = (median([took for took, _ in theirs]), median([held for _, held in theirs]))
    return [row.beside("BIND", figure) for row, figure in zip(listed, figures, strict=True)]
