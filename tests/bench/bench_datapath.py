"""What the full two-gateway path costs, against the same path written by hand, and against a direct call."""

import asyncio
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

import msgspec

from isthmus_core.model import CheckKind, HealthCheck
from isthmus_gateway.envoy import find_envoy
from support.addresses import LoopbackNet
from support.bench import Row
from support.envoy_gateway import Pair, service_of
from support.process import Process
from support.waiting import eventually

NAME = "datapath"
ROUNDS = 7
SECONDS = 1.5
CONNECTIONS = 16
STATIC = Path(__file__).parent / "static"
LOAD = Path(__file__).parent / "http_load.py"


class Sample(msgspec.Struct, frozen=True):
    """One round on one path: requests a second of many connections, the median answer time of one, and the processor
    time that the path's proxies spent on a request (which does not depend on what else the machine does)."""

    rps: float
    p50_us: float
    cpu_us: float


Samples = dict[str, list[Sample]]
"""By path, the rounds in order."""

Reading = Callable[[Sample], float]


async def load(*arguments: str) -> dict[str, object]:
    """A load from a process of its own."""
    child = await asyncio.create_subprocess_exec(sys.executable, LOAD, *arguments, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(SECONDS + 30):
        output, _ = await child.communicate()
    return msgspec.json.decode(output, type=dict[str, object])


class Run(msgspec.Struct, frozen=True):
    """What the closed load prints."""

    rps: float
    requests: int
    wrong: int


async def rate(address: str, port: int, proxies: Iterable[int]) -> tuple[float, float]:
    """Requests a second, and microseconds of processor time a request took in these processes."""
    pids = list(proxies)
    before = cpu_seconds(pids)
    run = msgspec.convert(await load("closed", address, str(port), str(CONNECTIONS), str(SECONDS)), Run)
    if run.wrong:
        raise RuntimeError(f"{run.wrong} answers from {address}:{port} were wrong")
    return run.rps, (cpu_seconds(pids) - before) / run.requests * 1e6


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of all threads so far (proc(5): schedstat, nanoseconds)."""
    threads = [thread for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


async def medians(targets: Iterable[tuple[str, int]]) -> list[float]:
    """Answer times of one connection to each path, asked in turns."""
    words = [str(word) for target in targets for word in target]
    return msgspec.convert((await load("turns", str(SECONDS), *words))["p50_us"], list[float])


def by_hand(name: str, pair: Pair, **addresses: str) -> Process:
    """An Envoy with one of the files in `static/`."""
    text = Template((STATIC / f"{name}.yaml").read_text()).substitute(FOLDER=pair.folder, **addresses)
    path = pair.folder / f"{name}.yaml"
    path.write_text(text)
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
    # A session of its own, as the product's Envoys have: Linux shares processors out by session (sched(7), autogroup).
    return Process(["setsid", find_envoy(), "-c", path, *options], pair.folder / f"{name}.log")


def write_certificates(pair: Pair) -> None:
    (pair.folder / "root.pem").write_bytes(pair.world.roots_pem)
    for cluster in "ab":
        chain, key = pair.world.identity(cluster)
        (pair.folder / f"{cluster}.pem").write_bytes(chain)
        (pair.folder / f"{cluster}.key").write_bytes(key)


async def measure(folder: Path, net: LoopbackNet) -> Samples:
    """Interleaved rounds over the three paths."""
    pair = Pair(folder, net)
    write_certificates(pair)
    backend_at, gateway_at, vip = net.next(), net.next(), net.next()
    backend = by_hand("backend", pair, BACKEND=backend_at)
    ingress = by_hand("ingress", pair, BACKEND=backend_at, GATEWAY=gateway_at)
    egress = by_hand("egress", pair, GATEWAY=gateway_at, VIP=vip)
    found: Samples = {"direct": [], "by hand": [], "isthmus": []}
    with backend, ingress, egress:
        for process, where in ((backend, (backend_at, 9001)), (ingress, (gateway_at, 15443)), (egress, (vip, 8080))):
            process.wait_for_port(*where)
        async with pair.running():
            service = service_of(
                "echo", [(backend_at, 9001)], locality="gcp/eu-west-4/b", check=HealthCheck(CheckKind.TCP)
            )
            pair.b.export(service)
            pair.a.serve(pair.vip, None, [("b", service)])
            await pair.a.serving("egress/shop/echo/8080")
            await eventually(lambda: any(pair.b.verdict("local/echo.shop.svc.clusterset.local:8080")), 10)
            paths = {"direct": (backend_at, 9001), "by hand": (vip, 8080), "isthmus": (pair.vip, 8080)}
            ours = [pid for gateway in (pair.a, pair.b) if (pid := gateway.process.running_pid()) is not None]
            proxies = {"direct": [], "by hand": [egress.pid, ingress.pid], "isthmus": ours}
            for number in range(ROUNDS + 1):
                p50 = dict(zip(paths, await medians(paths.values()), strict=True))
                # The order turns, so that nobody always runs after the same neighbour.
                for name in sorted(paths, key=lambda name: (list(paths).index(name) + number) % len(paths)):
                    rps, cpu = await rate(*paths[name], proxies[name])
                    sample = Sample(rps, p50[name], cpu)
                    if number:  # the first round warms everything up
                        found[name].append(sample)
    return found


def rows() -> list[Row]:
    net = LoopbackNet()
    try:
        with TemporaryDirectory(prefix="isthmus-bench-") as folder:
            found = asyncio.run(measure(Path(folder), net))
    finally:
        net.close()
    return [
        compare(found, "requests/s, 16 connections", lambda sample: sample.rps, at_least=0.95),
        compare(found, "p50, 1 connection", lambda sample: sample.p50_us, at_most=1.05),
        compare(found, "processor time a request, both proxies", lambda sample: sample.cpu_us),
        beside_direct(found, "requests/s, 16 connections, against a direct call", "1/s", lambda sample: sample.rps),
        beside_direct(found, "p50, 1 connection, against a direct call", "us", lambda sample: sample.p50_us),
    ]


def compare(found: Samples, name: str, read: Reading, at_least: float = 0.0, at_most: float = 0.0) -> Row:
    """Ours against the path by hand. The machine's mood changes from round to round, so the ratio is the median of the
    rounds' own ratios, and the reference is shown as what it would be beside our median."""
    value = statistics.median(map(read, found["isthmus"]))
    pairs = zip(found["isthmus"], found["by hand"], strict=True)
    ratio = statistics.median(read(ours) / read(hand) for ours, hand in pairs)
    if at_least:
        return Row.ratio_at_least(name, value, "1/s", at_least, "by hand", value / ratio)
    if at_most:
        return Row.ratio_at_most(name, value, "us", at_most, "by hand", value / ratio)
    return Row.noted(name, value, "us").beside("by hand", value / ratio)


def beside_direct(found: Samples, name: str, unit: str, read: Reading) -> Row:
    direct = statistics.median(map(read, found["direct"]))
    return Row.noted(name, statistics.median(map(read, found["isthmus"])), unit).beside("direct", direct)
