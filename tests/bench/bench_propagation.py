"""How long an endpoint change takes from one cluster's file to another cluster's Envoy."""

import asyncio
import http.client
import os
import re
import socket
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from isthmus_controller.store import EtcdClient, Follower, Put, Target
from support.bench import Row, percentile
from support.etcd import Etcd
from support.federation import Federation, Member

NAME = "propagation"
SAMPLES = 300
PAUSE = 0.02
UNSEEN = 0.002
BETWEEN = 0.0005


class EnvoyWeights:
    """Reads the weight of a tunnel out of a running Envoy, through its admin socket."""

    def __init__(self, member: Member) -> None:
        self._socket = next(member.folder.glob("*admin*.sock"))
        self._connection = http.client.HTTPConnection("envoy")
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.sock.connect(str(self._socket))

    def weight(self, cluster: str) -> int:
        """The weight of the tunnel's endpoint in an Envoy cluster; 0 while there is none."""
        self._connection.request("GET", "/clusters?filter=" + cluster)
        text = self._connection.getresponse().read().decode()
        found = re.search(r"::envoy://.*?::weight::(\d+)", text)
        return int(found[1]) if found else 0


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


def _propagation(folder: Path) -> list[float]:
    samples: list[float] = []
    with Federation(folder, west="aws/eu-west-1/a", east="gcp/europe-west1/b") as federation:
        west, east = federation["west"], federation["east"]
        _change(west, 1)
        east.vip()
        envoy = EnvoyWeights(east)
        for number in range(SAMPLES):
            weight = number % 50 + 2
            start = _change(west, weight)
            time.sleep(UNSEEN)
            while envoy.weight("shop/echo") != weight:
                time.sleep(BETWEEN)  # Envoy answers on the thread that takes the change in
                if time.perf_counter() - start > 10:
                    raise RuntimeError(f"change {number} did not arrive within 10 s")
            samples.append((time.perf_counter() - start) * 1000)
            time.sleep(PAUSE)
    return samples


async def _floor(address: str) -> list[float]:
    """An etcd put until a watch through the same client shows it."""
    samples: list[float] = []
    async with EtcdClient(Target((f"http://{address}",))) as etcd:
        seen: asyncio.Queue[float] = asyncio.Queue()

        follower = Follower(etcd, "/bench/", lambda _: seen.put_nowait(time.perf_counter()))
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(follower.run(), name="watch")
            await follower.state.wait(lambda state: state.synced, timeout=10)
            while not seen.empty():
                seen.get_nowait()
            for number in range(SAMPLES):
                start = time.perf_counter()
                await etcd.txn([], [Put("/bench/key", str(number).encode())])
                samples.append((await seen.get() - start) * 1000)
                await asyncio.sleep(PAUSE)
            watching.cancel()
    return samples


def rows() -> list[Row]:
    """The whole chain: file, agent, controller, etcd, controller, agent, Envoy; beside etcd alone."""
    with TemporaryDirectory() as folder:
        with Etcd(Path(folder) / "etcd") as etcd:
            floor = asyncio.run(_floor(etcd.address))
        samples = _propagation(Path(folder))
    return [
        Row.at_most(f"file of west to Envoy of east, p{p}", round(percentile(samples, p), 2), "ms", limit).beside(
            f"etcd put to watch, p{p}", round(percentile(floor, p), 2)
        )
        for p, limit in ((50, 5.0), (99, 15.0))
    ]
