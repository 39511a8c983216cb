"""Rows: a zone of 100,000 names: how long from the start of a worker to its first answer, how the next ones are, and
what it holds."""

import asyncio
import os
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from support.bench import Row, median, percentile
from support.dns_peers import content
from support.dns_peers.load import Broken
from support.dns_peers.ours import served
from support.dns_peers.peers import PEERS, peer, program
from support.dns_peers.running import CORES, Running, foremost
from unit.nameserver.builders import Feed, question

SERVICES = 33_400
"""Three names each: the service, its port's SRV name, and `_tcp` between them."""
ROUNDS = 3
QUESTIONS = 2000
PATIENCE = 1.0
REST, IDLE = 0.3, 0.02
WITHIN = 30.0


class Start(msgspec.Struct, frozen=True):
    seconds: float
    p99_ms: float
    """Of the first answers, while a server may still have work to do."""
    resident_mb: float
    """When it has done that work."""


async def started(running: Running, began: float, queries: Sequence[bytes]) -> Start:
    took = time.perf_counter() - began
    with foremost():  # whoever asks is not to wait for a server that still works
        delays = await asyncio.to_thread(ask_all, running, queries)
    await at_rest(running)
    return Start(took, percentile(delays, 99), running.resident_mb)


def questions() -> list[bytes]:
    """For names all over the zone."""
    dice = random.Random(1)
    numbers = [dice.randrange(SERVICES) for _ in range(QUESTIONS)]
    return [question(f"svc{n}.ns{n % 20}.svc.{content.ORIGIN}", id=n).to_wire() for n in numbers]


def ask_all(server: Running, queries: Sequence[bytes]) -> list[float]:
    """Milliseconds until each answer; one that is late, or says that there is nothing, breaks the run."""
    delays = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect((server.host, server.port))
        for query in queries:
            began = time.perf_counter()
            client.send(query)
            answer = client.recv(512)
            delays.append((time.perf_counter() - began) * 1000)
            if answer[:2] != query[:2] or answer[3] & 15 or not answer[7]:
                raise Broken(f"{server.name} was ready and had no answer to {query.hex()}: {answer.hex()}")
    return delays


async def at_rest(server: Running) -> None:
    async with asyncio.timeout(WITHIN):
        used = -1.0
        while server.cpu_seconds - used > IDLE:
            used = server.cpu_seconds
            await asyncio.sleep(REST)


async def rows(folder: Path) -> list[Row]:
    """Nobody is held to a core: how fast a server starts may depend on how many it has."""
    services = content.services(SERVICES, 0)
    folder.mkdir()
    feed = Feed(folder / "zone.sock")
    feed.publish(services)
    ours: list[Start] = []
    theirs: list[Start] = []
    zone = content.write_zone(folder / "zone", services)
    queries = questions()
    os.sched_setaffinity(0, CORES)
    async with feed.serving():
        for number in range(ROUNDS):
            began = time.perf_counter()
            async with served(feed, cores=CORES) as running:
                ours.append(await started(running, began, queries))
            if program(PEERS["BIND"][0]):
                began = time.perf_counter()
                async with peer("BIND", folder / f"bind-{number}", zone, CORES) as running:
                    theirs.append(await started(running, began, queries))
    listed = [
        Row.at_most("100k names, start to ready", median([one.seconds for one in ours]), "s", 2),
        Row.noted("100k names, p99 of the first 2,000 answers", median([one.p99_ms for one in ours]), "ms"),
        Row.at_most("100k names, resident, a worker", median([one.resident_mb for one in ours]), "MB", 200),
    ]
    if not theirs:
        return listed
    figures = [median([getattr(one, field) for one in theirs]) for field in ("seconds", "p99_ms", "resident_mb")]
    return [row.beside("BIND", figure) for row, figure in zip(listed, figures, strict=True)]
