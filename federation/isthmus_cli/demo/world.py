"""The demo's processes: one controller, three clusters, and the addresses that they live at."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from isthmus_cli.demo import guard
from isthmus_cli.demo.ports import choose_ports
from isthmus_core.errors import Unavailable
from isthmus_kit.children import descendants, die_with_parent, end, freeze, send


class Place(NamedTuple):
    """A cluster of the demo: its name, where it is said to be, and its own part of the loopback network."""

    name: str
    locality: str
    net: str  # the first three numbers of its addresses, "127.90.1"
    vip_range: str

    @property
    def address(self) -> str:
        """Where its gateway listens."""
        return f"{self.net}.1"

    @property
    def sample(self) -> str:
        """Where its sample services listen."""
        return f"{self.net}.10"

    @property
    def dns(self) -> str:
        """Where its DNS server listens."""
        return f"{self.net}.53"


PLACES = (("ireland", "aws/eu-west-1/a"), ("belgium", "gcp/europe-west1/b"), ("berlin", "onprem/berlin/rack-7"))


def claim_network() -> tuple[socket.socket, int]:
    """A free /16 of the loopback network for the whole demo, 127.N: what holds the claim, and N.

    The claim is a name of the kernel (unix(7), abstract sockets) that ends with the demo: two demos that start in the
    same second must not choose the same addresses, long before either listens there.
    """
    for second in range(90, 120):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0isthmus-demo-127.{second}")
        except OSError:
            claim.close()
            continue
        return claim, second
    raise Unavailable("no free loopback network for the demo: 30 demos run already", "Stop some of them.")


class World:
    """Starts and ends the processes of the demo; all of them end with it."""

    def __init__(self, home: Path) -> None:
        """`home` is the demo's data directory."""
        self.home = home
        self._claim, second = claim_network()
        self.controller = f"127.{second}.0.1"
        self.places = [
            Place(name, locality, f"127.{second}.{n}", f"127.{second}.{100 + n}.0/24")
            for n, (name, locality) in enumerate(PLACES, 1)
        ]
        hosts = [address for place in self.places for address in (place.address, place.sample, place.dns)]
        self.ports = choose_ports([self.controller, *hosts])
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._guard: asyncio.subprocess.Process | None = None

    async def open(self) -> None:
        """Before anything is started: set the guard that ends it all if the demo is killed."""
        self._guard = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-S", "-E", guard.__file__, str(self.home)),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo
        )

    async def cli(self, *words: str) -> str:
        """Run one isthmus command as a person would; raises Unavailable with its error when it fails."""
        child = await asyncio.create_subprocess_exec(
            *self._isthmus(*words),
            env=self._environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent(),
        )
        async with asyncio.timeout(60):
            out, err = await child.communicate()
        if child.returncode:
            sentence = err.decode().strip().removeprefix("Error: ")
            raise Unavailable(f"'isthmus {' '.join(words)}' failed: {sentence}")
        return out.decode()

    async def start(self, name: str, *words: str) -> None:
        """Start a long-running isthmus command; its log goes to `<home>/logs/<name>.log`."""
        await self._spawn(name, self._isthmus(*words))

    async def start_controller(self) -> None:
        """The controller with its embedded etcd."""
        await self.start(
            "controller",
            "controller",
            "--listen",
            f"{self.controller}:{self.ports.grpc}",
            "--admin-listen",
            f"{self.controller}:{self.ports.admin}",
        )

    async def start_gateway(self, place: Place) -> None:
        """A cluster's gateway with its Envoy."""
        await self.start(
            f"{place.name}-gateway",
            *("gateway", "--cluster", place.name, "--listen", f"{place.address}:{self.ports.gateway}"),
            *("--vip-range", place.vip_range, "--web-listen", f"{place.address}:{self.ports.web}"),
        )

    async def start_dns(self, place: Place) -> None:
        """A cluster's DNS server."""
        await self.start(
            f"{place.name}-dns", "dns", "--cluster", place.name, "--listen", f"{place.dns}:{self.ports.dns}"
        )

    async def start_sample(self, place: Place) -> None:
        """A cluster's sample services, ready to answer."""
        words = [
            sys.executable,
            "-m",
            "isthmus_cli.demo.samples",
            place.sample,
            str(self.ports.http),
            str(self.ports.tcp),
            place.name,
        ]
        await self._spawn(f"{place.name}-sample", words)
        await wait_for(f"the samples of {place.name}", lambda: _answers(place.sample, self.ports.http), 20)

    async def start_cluster(self, place: Place) -> None:
        """Everything of one cluster, until its gateway and its DNS are ready."""
        await asyncio.gather(self.start_sample(place), self.start_gateway(place), self.start_dns(place))
        await self.cluster_ready(place)

    async def cluster_ready(self, place: Place) -> None:
        """Wait until the gateway says that nothing is missing."""
        await wait_for(f"the gateway of {place.name}", lambda: self._ready(f"{place.name}-gateway", place), 60)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to one process (not to its children)."""
        send([self._children[name].pid], number)

    def signal_cluster(self, place: Place, number: int) -> None:
        """Send a signal to everything that runs in a cluster, the Envoy included, all at once."""
        send(freeze(self._children[name].pid for name in self.names_of(place)), number)

    async def gone(self, *names: str) -> None:
        """Wait for processes that were killed."""
        for name in names:
            await self._children.pop(name).wait()

    def names_of(self, place: Place) -> list[str]:
        """The processes of a cluster that were started and not yet waited for."""
        return [name for name in self._children if name.startswith(f"{place.name}-")]

    async def stop(self) -> None:
        """End everything: the clusters first, the controller last."""
        for child in self._children.values():
            send([child.pid, *descendants(child.pid)], signal.SIGCONT)
        rest = [child for name, child in self._children.items() if name != "controller"]
        await asyncio.gather(*(end(child, 10) for child in rest))
        if controller := self._children.get("controller"):
            await end(controller, 10)
        self._children.clear()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            await self._guard.wait()
        self._claim.close()

    def check_alive(self) -> None:
        """Raise Unavailable with its last log line when a process has ended by itself."""
        for name, child in self._children.items():
            if child.returncode is not None:
                raise Unavailable(
                    f"{name} ended with status {child.returncode}: {self.last_line(name)}", f"See {self._log(name)}."
                )

    def last_line(self, name: str) -> str:
        """The last line that a process wrote."""
        lines = self._log(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    async def ready(self, name: str, url: str) -> bool:
        """Whether `url` answers 200, while the process is alive."""
        self.check_alive()
        return await asyncio.to_thread(_ok, url)

    async def _ready(self, name: str, place: Place) -> bool:
        return await self.ready(name, f"http://{place.address}:{self.ports.web}/readyz")

    async def _spawn(self, name: str, words: Sequence[str]) -> None:
        log = self._log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._children[name] = await asyncio.create_subprocess_exec(
                *words,
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                preexec_fn=die_with_parent(),
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then ends its parts in order
            )

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def _isthmus(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "isthmus_cli.main", *words]

    def _environment(self) -> Mapping[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_") or name in _KEPT}
        return {**mine, "ISTHMUS_HOME": str(self.home), guard.VARIABLE: str(self.home)}


_KEPT = ("ISTHMUS_ETCD", "ISTHMUS_ENVOY")


async def wait_for(what: str, condition: Callable[[], object], seconds: float) -> None:
    """Ask `condition` (sync or async, no arguments) until it is true; raises Unavailable after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        await asyncio.sleep(0.02)
    raise Unavailable(f"{what} did not become ready within {seconds:.0f} s")


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 0.5).close()
    except OSError:
        return False
    return True


def _ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(json.loads(answer.read())["ready"])
    except (OSError, ValueError, KeyError, urllib.error.URLError):
        return False
