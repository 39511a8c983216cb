"""How long an endpoint change takes from one cluster's file to another cluster's Envoy."""

import asyncio
import http.client
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from isthmus_controller.store import EtcdClient, Follower, Put, Target
from isthmus_gateway.envoy import find_envoy
from support import shortest_way as floor
from support.bench import Row, percentile
from support.etcd import Etcd
from support.federation import Federation, Member
from support.process import Process
from support.waiting import wait_until

NAME = "propagation"
SAMPLES = 300
TURNS = 6
# Percentile, milliseconds, and the same as a multiple of the shortest way from etcd to Envoy.
LIMITS = ((50, 5.0, 1.6), (99, 15.0, 2.5))
PAUSE = 0.02
UNSEEN = 0.002
BETWEEN = 0.0005


class EnvoyWeights:
    """Reads the weight of an endpoint out of a running Envoy, through its admin socket."""

    def __init__(self, admin: Path) -> None:
        self._connection = http.client.HTTPConnection("envoy")
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.sock.connect(str(admin))

    def weight(self, cluster: str, address: str) -> int:
        """The weight of the endpoint whose address starts so, in an Envoy cluster; 0 while there is none."""
        self._connection.request("GET", "/clusters?filter=" + cluster)
        text = self._connection.getresponse().read().decode()
        found = re.search(rf"::{address}.*?::weight::(\d+)", text)
        return int(found[1]) if found else 0

    def arrived(self, cluster: str, address: str, weight: int, start: float) -> float:
        """Milliseconds from `start` (perf_counter seconds) until the endpoint has this weight."""
        time.sleep(UNSEEN)
        while self.weight(cluster, address) != weight:
            time.sleep(BETWEEN)  # Envoy answers on the thread that takes the change in
            if time.perf_counter() - start > 10:
                raise RuntimeError(f"the weight {weight} did not arrive in {cluster} within 10 s")
        return (time.perf_counter() - start) * 1000


def _document(weight: int, address: str) -> str:
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: Service
metadata: {{namespace: shop, name: echo}}
spec:
  ports:
  - {{name: http, port: 8080}}
  endpoints:
  - {{address: {address}, weight: {weight}}}
  healthCheck: none
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {{namespace: shop, name: echo}}
"""


def _change(member: Member, weight: int) -> float:
    """Write the document; gives the moment at which it was there (monotonic seconds)."""
    path = member.folder / "services" / "echo.yaml"
    temporary = member.folder / "echo.yaml"
    temporary.write_text(_document(weight, member.net.address(10)))
    start = time.perf_counter()
    os.replace(temporary, path)
    return start


class Floors:
    """What the same machine needs for less: etcd alone, and etcd to Envoy without a federation between them."""

    def __init__(self, folder: Path, etcd: Etcd) -> None:
        self._target = Target((f"http://{etcd.address}",))
        self._weight = 1
        xds, admin = folder / "xds.sock", folder / "admin.sock"
        (folder / "envoy.json").write_text(json.dumps(floor.bootstrap(str(xds), str(admin))))
        source = Process([sys.executable, floor.__file__, etcd.address, xds], folder / "source.log")
        options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
        # A session of its own, as the product's Envoys have: Linux shares processors out by session.
        envoy = Process(["setsid", find_envoy(), "-c", folder / "envoy.json", *options], folder / "envoy.log")
        self._processes = (source, envoy)
        self._admin = admin

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        wait_until(self._listens, within=20.0)
        self._envoy = EnvoyWeights(self._admin)
        return self

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._admin)) == 0

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.stop()

    async def put_to_watch(self, samples: int) -> list[float]:
        """Milliseconds from a put until a watch through the same client shows it."""
        taken: list[float] = []
        seen: asyncio.Queue[float] = asyncio.Queue()
        async with EtcdClient(self._target) as etcd, asyncio.TaskGroup() as group:
            follower = Follower(etcd, "/bench/", lambda _: seen.put_nowait(time.perf_counter()))
            watching = group.create_task(follower.run(), name="watch")
            await follower.state.wait(lambda state: state.synced, timeout=10)
            while not seen.empty():
                seen.get_nowait()
            for number in range(samples):
                start = time.perf_counter()
                await etcd.txn([], [Put("/bench/key", str(number).encode())])
                taken.append((await seen.get() - start) * 1000)
                await asyncio.sleep(PAUSE)
            watching.cancel()
        return taken

    async def put_to_envoy(self, samples: int) -> list[float]:
        """Milliseconds from a put until Envoy has what it says."""
        taken: list[float] = []
        async with EtcdClient(self._target) as etcd:
            await self._put(etcd)
            for _ in range(samples):
                await asyncio.sleep(PAUSE)
                taken.append(await self._put(etcd))
        return taken

    async def _put(self, etcd: EtcdClient) -> float:
        self._weight = self._weight % 50 + 1
        start = time.perf_counter()
        await etcd.put(floor.KEY, str(self._weight).encode())
        return self._envoy.arrived(floor.CLUSTER, r"127\.0\.0\.1", self._weight, start)


class Chain:
    """The whole federation: a file of west, to Envoy of east."""

    def __init__(self, west: Member, east: Member) -> None:
        self._west = west
        self._number = 0
        _change(west, 1)
        east.vip()
        self._envoy = EnvoyWeights(next(east.folder.glob("*admin*.sock")))

    def file_to_envoy(self, samples: int) -> list[float]:
        """Milliseconds from a new file until the other cluster's Envoy has what it says."""
        taken: list[float] = []
        for _ in range(samples):
            self._number += 1
            weight = self._number % 50 + 2
            start = _change(self._west, weight)
            taken.append(self._envoy.arrived("shop/echo", "envoy://", weight, start))
            time.sleep(PAUSE)
        return taken


def rows() -> list[Row]:
    """The whole chain: file, agent, controller, etcd, controller, agent, Envoy; in turns with what it stands on."""
    watched: list[float] = []
    shortest: list[float] = []
    samples: list[float] = []
    with (
        TemporaryDirectory() as folder,
        Etcd(Path(folder) / "etcd") as etcd,
        Floors(Path(folder), etcd) as floors,
        Federation(Path(folder), west="aws/eu-west-1/a", east="gcp/europe-west1/b") as federation,
    ):
        chain = Chain(federation["west"], federation["east"])
        for _ in range(TURNS):
            watched += asyncio.run(floors.put_to_watch(SAMPLES // TURNS))
            shortest += asyncio.run(floors.put_to_envoy(SAMPLES // TURNS))
            samples += chain.file_to_envoy(SAMPLES // TURNS)
    return [row for percent, limit, ratio in LIMITS for row in _rows(percent, limit, ratio, samples, watched, shortest)]


def _rows(
    percent: int, limit: float, ratio: float, samples: list[float], watched: list[float], shortest: list[float]
) -> list[Row]:
    name = f"file of west to Envoy of east, p{percent}"
    value, put, envoy = (round(percentile(taken, percent), 2) for taken in (samples, watched, shortest))
    return [
        Row.at_most(name, value, "ms", limit).beside(f"etcd put to watch, p{percent}", put),
        Row.ratio_at_most(name, value, "ms", ratio, f"etcd put, watch, Envoy, p{percent}", envoy),
    ]


def about() -> str:
    """What the figures stand beside."""
    return (
        "`etcd put, watch, Envoy` is the shortest way there is: a put, one process that watches etcd and sends one\n"
        "assignment, one Envoy; no files, no clusters, no certificates. The targets in milliseconds were set where\n"
        "that way took 3.1 ms (p50) and 6 ms (p99); the targets as ratios are the same, for any machine.\n"
    )
