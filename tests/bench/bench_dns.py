"""How many questions one DNS worker answers and what each costs, and how fast a change becomes an answer."""

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from isthmus_dns.addresses import Address, claim_addresses
from isthmus_dns.traffic import Report
from isthmus_dns.worker import WorkerSpec
from isthmus_sync.proto import isthmus_pb2 as pb
from support.bench import Row, median, percentile
from unit.nameserver.builders import Feed, headless, host, question, responder, service

NAME = "dns"
HOST = "127.53.9.1"
LOAD = Path(__file__).with_name("dns_load.py")
SECONDS = 3.0
ROUNDS = 3
TICK = os.sysconf("SC_CLK_TCK")


def zone(services: int = 1000, headless_ones: int = 50) -> list[pb.ZoneService]:
    """Services with A, AAAA and SRV, and headless ones of ten endpoints."""
    plain = [
        service(f"ns{n % 20}/svc{n}", [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", f"fd00::{n:x}"])
        for n in range(services)
    ]
    many = [
        headless(f"ns{n % 20}/set{n}", [host(f"10.200.{n}.{e}", f"set-{e}") for e in range(10)])
        for n in range(headless_ones)
    ]
    return [*plain, *many]


def mixed(count: int = 4000) -> list[bytes]:
    """60 % A, 20 % AAAA, 5 % SRV, 10 % NXDOMAIN, 5 % NODATA, half of them with EDNS."""
    dice = random.Random(1)
    queries = []
    for _ in range(count):
        n, fate, edns = dice.randrange(1000), dice.random(), dice.choice([None, 1232])
        name = f"svc{n}.ns{n % 20}.svc.clusterset.local"
        if fate < 0.6:
            queries.append(question(name, "A", edns))
        elif fate < 0.8:
            queries.append(question(name, "AAAA", edns))
        elif fate < 0.85:
            queries.append(question(f"_http._tcp.{name}", "SRV", edns))
        elif fate < 0.95:
            queries.append(question(f"no{name}", "A", edns))
        else:
            queries.append(question(name, "MX", edns))
    return [query.to_wire() for query in queries]


def only_a() -> list[bytes]:
    return [question(f"svc{n}.ns{n % 20}.svc.clusterset.local").to_wire() for n in range(1000)]


class Server:
    """A worker process pinned to the first core."""

    def __init__(self, address: Address, process: asyncio.subprocess.Process) -> None:
        self.address = address
        self.process = process
        self.report: Report | None = None

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.report = msgspec.json.decode(line, type=Report)

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    @property
    def resident_mb(self) -> float:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@asynccontextmanager
async def worker(feed: Feed) -> AsyncIterator[Server]:
    (address,) = claim_addresses([Address(HOST, 0)])
    command = (sys.executable, "-m", "isthmus_dns.worker")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 20)
    os.sched_setaffinity(process.pid, {0})
    assert process.stdin is not None
    process.stdin.write(
        msgspec.json.encode(WorkerSpec(feed=str(feed.path), listen=(address,), log_level="error")) + b"\n"
    )
    server = Server(address, process)
    reading = asyncio.get_running_loop().create_task(server.read(), name="reports")
    try:
        await until_answer(server, b"", within=60)
        yield server
    finally:
        process.stdin.close()
        await process.wait()
        await reading


async def until_answer(server: Server, address: bytes, within: float = 10.0) -> None:
    """Ask until the answer is NOERROR and holds `address`."""
    loop = asyncio.get_running_loop()
    query = question("svc0.ns0.svc.clusterset.local").to_wire()

    class Client(asyncio.DatagramProtocol):
        answer = asyncio.Event()

        def datagram_received(self, data: bytes, addr: object) -> None:
            if data[3] & 15 == 0 and data.endswith(address):
                self.answer.set()

    transport, client = await loop.create_datagram_endpoint(
        Client, remote_addr=(server.address.host, server.address.port)
    )
    client.answer = asyncio.Event()
    try:
        async with asyncio.timeout(within):
            while not client.answer.is_set():
                transport.sendto(query)
                try:
                    async with asyncio.timeout(0.0005):
                        await client.answer.wait()
                except TimeoutError:
                    continue
    finally:
        transport.close()


async def load(*arguments: str) -> list[float]:
    """What the load says; it runs on the last core."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(LOAD), *arguments), stdout=asyncio.subprocess.PIPE
    )
    os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
    output, _ = await process.communicate()
    return [float(word) for word in output.split()]


async def flooded(server: Server, queries: Path) -> tuple[float, float]:
    """Answers a second and microseconds of processor time for each, while more comes than can be answered."""
    where = (server.address.host, str(server.address.port))
    before, spent = await counted(server), server.cpu_seconds
    began = time.perf_counter()
    await load("flood", *where, str(SECONDS), str(queries))
    took, spent = time.perf_counter() - began, server.cpu_seconds - spent
    answers = await counted(server) - before
    return answers / SECONDS if took else 0.0, spent / max(1, answers) * 1e6


async def counted(server: Server) -> int:
    """Answers so far, after the next report."""
    server.report = None
    while server.report is None:
        await asyncio.sleep(0.02)
    return server.report.traffic.udp.responses


@asynccontextmanager
async def floor(folder: Path) -> AsyncIterator[Server]:
    """A bare loop over precompiled answers."""
    answers = responder(*zone())
    pairs = folder / "floor"
    pairs.write_text("\n".join(f"{q.hex()} {(answers.respond(q) or b'').hex()}" for q in only_a()))
    (address,) = claim_addresses([Address(HOST, 0)])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(LOAD), "floor", address.host, str(address.port), str(pairs)),
        stdout=asyncio.subprocess.PIPE,
    )
    os.sched_setaffinity(process.pid, {0})
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield Server(address, process)
    finally:
        process.kill()
        await process.wait()


async def floor_cost(server: Server, queries: Path) -> float:
    """Microseconds of processor time for a query, at a rate that the floor can answer whole."""
    where = (server.address.host, str(server.address.port))
    spent = server.cpu_seconds
    await load("pace", *where, str(SECONDS), str(queries), "20000")
    return (server.cpu_seconds - spent) / (SECONDS * 20000) * 1e6


async def changes(server: Server, feed: Feed, samples: int = 100) -> list[float]:
    """Milliseconds from a published change to the first new answer."""
    found = []
    for n in range(samples):
        fresh = f"10.99.{n >> 8}.{n & 255}"
        began = time.perf_counter()
        feed.publish([service("ns0/svc0", [fresh])])
        await until_answer(server, bytes(map(int, fresh.split("."))))
        found.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.02)
    return found


async def measure(folder: Path) -> list[Row]:
    a_file, mix_file = folder / "a", folder / "mix"
    a_file.write_text("\n".join(query.hex() for query in only_a()))
    mix_file.write_text("\n".join(query.hex() for query in mixed()))
    feed = Feed(folder / "zone.sock")
    feed.publish(zone())
    only, mix, ours, bare = [], [], [], []
    async with feed.serving(), worker(feed) as server, floor(folder) as beside:
        for _ in range(ROUNDS):
            only.append(await flooded(server, a_file))
            mix.append(await flooded(server, mix_file))
            ours.append(await floor_cost(server, a_file))
            bare.append(await floor_cost(beside, a_file))
        where = (server.address.host, str(server.address.port))
        paced = [await load("pace", *where, str(SECONDS), str(mix_file), "20000") for _ in range(ROUNDS)]
        changed = await changes(server, feed)
    rows = [
        Row.at_least("one worker, A", median([rate for rate, _ in only]), "queries/s", 150_000),
        Row.at_least("one worker, mix", median([rate for rate, _ in mix]), "queries/s", 150_000),
        Row.noted("processor time a query, A, saturated", median([cost for _, cost in only]), "us"),
        Row.noted("processor time a query, mix, saturated", median([cost for _, cost in mix]), "us"),
        Row.noted("processor time a query, A, at 20k/s", median(ours), "us").beside("bare loop", median(bare)),
        Row.noted("median latency at 20k/s", median([run[1] for run in paced]), "us"),
        Row.at_most("p99 latency at 20k/s", median([run[2] for run in paced]) / 1000, "ms", 1),
        Row.at_most("change to new answer, p50", percentile(changed, 50), "ms", 3),
        Row.at_most("change to new answer, p99", percentile(changed, 99), "ms", 10),
    ]
    return [*rows, *await large(folder)]


async def large(folder: Path) -> list[Row]:
    """A zone of 100,000 names: how long until it answers, and how much it holds."""
    feed = Feed(folder / "large.sock")
    feed.publish(zone(33_400, 0))
    async with feed.serving():
        began = time.perf_counter()
        async with worker(feed) as server:
            ready = time.perf_counter() - began
            return [
                Row.at_most("100k names, start to answers", ready, "s", 2),
                Row.at_most("100k names, resident", server.resident_mb, "MB", 200),
            ]


def rows() -> list[Row]:
    with TemporaryDirectory(prefix="isthmus-bench-dns-") as folder:
        return asyncio.run(measure(Path(folder)))
