"""An open load of 1,000 requests a second while something near fails: what is lost, how soon the next tier answers."""

import asyncio
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from isthmus_gateway.hedging import STEPS_MS
from support.addresses import LoopbackNet
from support.bench import Row
from support.envoy_gateway import Pair, service_of
from support.open_load import OpenLoad, open_load
from support.process import Process
from support.waiting import eventually

NAME = "failover"
RATE = 1000
SECONDS = 2.5
BEFORE = 0.8
RUNS = 5
WARM_S = 12.0
NEAR_ZONE = "aws/eu-west-1/b"


class Outcome(msgspec.Struct, frozen=True):
    """One run of one fault."""

    lost: int
    first_ms: float
    """The first answer of the far one, after the fault."""
    longest_ms: float
    gone_ms: float
    """When the kernel closed the near backend's connections, after the fault: nobody can know of a death sooner."""


class Scene:
    """Two clusters that both serve; the near one fails, the far one must answer."""

    def __init__(self, folder: Path, net: LoopbackNet, tunnel_first: bool) -> None:
        self.pair = Pair(folder, net, near=NEAR_ZONE if tunnel_first else "gcp/eu-west-4/b")
        self.sick = folder / "sick"
        self.near, near_at = self.pair.backend("near", sick=self.sick)
        self.near_at = near_at
        self.far, far_at = self.pair.backend("far")
        # With the tunnel first, cluster b is `near` and this cluster's own endpoints, in another cloud, are `far`.
        own, other = (far_at, near_at) if tunnel_first else (near_at, far_at)
        self.local = service_of("echo", [own], locality="onprem/oslo/1" if tunnel_first else "aws/eu-west-1/a")
        self.remote = service_of("echo", [other], locality=NEAR_ZONE if tunnel_first else "gcp/eu-west-4/b")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with self.near, self.far:
            async with self.pair.running():
                self.pair.a.export(self.local)
                self.pair.b.export(self.remote)
                self.pair.a.serve(self.pair.vip, self.local, [("b", self.remote)])
                await self.pair.a.serving("egress/shop/echo/8080")
                await self.well()
                yield

    async def well(self) -> None:
        """Every endpoint is found healthy again, and the near one answers."""

        async def healthy() -> bool:
            for gateway in (self.pair.a, self.pair.b):
                verdicts = await gateway.admin.clusters()
                if not all(verdict.healthy for verdict in verdicts):
                    return False
            return any(self.pair.b.verdict("local/echo.shop.svc.clusterset.local:8080"))

        await eventually(healthy, 20)
        async with open_load(self.pair.vip, 8080, 50, 0.2) as load:
            pass
        if set(load.outcomes) - {"near"}:
            await asyncio.sleep(1.0)  # an ejection that still lasts

    async def warm(self) -> None:
        """The gateway has seen that the service answers at once (or not, on a machine that is busy)."""
        for _ in range(3):
            if self.pair.a.hedges.delay_ms("service/shop/echo/8080") != STEPS_MS[0]:
                async with open_load(self.pair.vip, 8080, 100, WARM_S):
                    pass

    async def run(self, fault: Callable[[], None]) -> Outcome:
        async with watched(self.near_at) as near, open_load(self.pair.vip, 8080, RATE, SECONDS) as load:
            await asyncio.sleep(BEFORE)
            moment = time.monotonic()
            fault()
        tell_of_lost(load, moment)
        return Outcome(
            lost=load.lost("near", "far"),
            first_ms=load.first_answer_after(moment, "far") * 1000,
            longest_ms=load.longest() * 1000,
            gone_ms=(near.closed_at - moment) * 1000,
        )


def tell_of_lost(load: OpenLoad, moment: float) -> None:
    """What became of requests that were lost, and when they were due: for whoever looks for the cause."""
    lost = [(due - moment, done - due, what) for due, done, what in load.records if what not in ("near", "far")]
    for what in {what for _, _, what in lost}:
        dues, waits = zip(*[(due, wait) for due, wait, other in lost if other == what], strict=True)
        due = f"due {1000 * min(dues):.0f} to {1000 * max(dues):.0f} ms after the fault"
        waited = f"waited {1000 * min(waits):.0f} to {1000 * max(waits):.0f} ms"
        print(f"lost {len(dues)}, {due}, {waited}: {what}", file=sys.stderr, flush=True)


class Watch(asyncio.Protocol):
    """An idle connection that notes when its other end closed it."""

    closed_at = math.inf

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed_at = time.monotonic()


@asynccontextmanager
async def watched(address: tuple[str, int]) -> AsyncIterator[Watch]:
    """Such a connection while the block runs."""
    transport, watch = await asyncio.get_running_loop().create_connection(Watch, *address)
    try:
        yield watch
    finally:
        transport.abort()


async def backend_faults(folder: Path, net: LoopbackNet) -> dict[str, list[Outcome]]:
    """Faults of the near backend, which is this cluster's own; the next tier is the other cluster."""
    scene = Scene(folder, net, tunnel_first=False)
    found: dict[str, list[Outcome]] = {"backend killed": [], "backend frozen": [], "backend answers 503": []}

    def kill() -> None:
        os.kill(scene.near.pid, signal.SIGKILL)

    def restart(process: Process) -> None:
        process.stop()
        process.start().wait_for_line("serving")

    async with scene.running():
        await scene.warm()
        for _ in range(RUNS):
            found["backend killed"].append(await scene.run(kill))
            restart(scene.near)
            await scene.well()
            found["backend frozen"].append(await scene.run(scene.near.freeze))
            scene.near.thaw()
            await scene.well()
            found["backend answers 503"].append(await scene.run(scene.sick.touch))
            scene.sick.unlink()
            await scene.well()
    return found


async def cluster_faults(folder: Path, net: LoopbackNet, how: signal.Signals) -> list[Outcome]:
    """The near cluster's gateway and its backend fail in the same moment; this cluster's own endpoints are next."""
    found = []
    for number in range(RUNS):
        scene = Scene(folder / str(number), net, tunnel_first=True)
        async with scene.running():

            def fault(scene: Scene = scene) -> None:
                scene.pair.b.die(how)
                os.kill(scene.near.pid, how)

            try:
                found.append(await scene.run(fault))
            finally:
                if how is signal.SIGSTOP:
                    scene.near.thaw()
                    if pid := scene.pair.b.process.running_pid():
                        os.kill(pid, signal.SIGCONT)
    return found


async def measure(folder: Path, net: LoopbackNet) -> dict[str, list[Outcome]]:
    for name in ("backends", *(f"{how.name}/{n}" for how in (signal.SIGKILL, signal.SIGSTOP) for n in range(RUNS))):
        (folder / name).mkdir(parents=True)
    found = await backend_faults(folder / "backends", net)
    found["cluster killed"] = await cluster_faults(folder / "SIGKILL", net, signal.SIGKILL)
    found["cluster frozen"] = await cluster_faults(folder / "SIGSTOP", net, signal.SIGSTOP)
    return found


def _after_the_end(fault: str, outcomes: list[Outcome], limit_ms: float) -> list[Row]:
    """Envoy's part of it: a killed process keeps its connections until the kernel has taken it down."""
    if fault != "backend killed":
        return []
    gone = statistics.median(outcome.gone_ms for outcome in outcomes)
    after = statistics.median(outcome.first_ms - outcome.gone_ms for outcome in outcomes)
    return [
        Row.noted(f"{fault}: the kernel has closed its connections, p50 of {RUNS}", gone, "ms"),
        Row.at_most(f"{fault}: first answer from the next tier after that, p50 of {RUNS}", after, "ms", limit_ms),
    ]


LIMIT_MS = {
    "backend killed": 5,
    "backend answers 503": 5,
    "backend frozen": 50,
    "cluster killed": 300,
    "cluster frozen": 300,
}


def rows() -> list[Row]:
    net = LoopbackNet()
    try:
        with TemporaryDirectory(prefix="isthmus-bench-") as folder:
            found = asyncio.run(measure(Path(folder), net))
    finally:
        net.close()
    answer = []
    for fault, outcomes in found.items():
        first = statistics.median(outcome.first_ms for outcome in outcomes)
        longest = statistics.median(outcome.longest_ms for outcome in outcomes)
        limit = LIMIT_MS[fault]
        answer += [
            Row.at_most(f"{fault}: lost of {int(RATE * SECONDS) * RUNS}", sum(o.lost for o in outcomes), "", 0),
            Row.at_most(f"{fault}: first answer from the next tier, p50 of {RUNS}", first, "ms", limit),
            *_after_the_end(fault, outcomes, limit),
            Row.noted(f"{fault}: longest answer of a run, p50 of {RUNS}", longest, "ms"),
        ]
    return answer
