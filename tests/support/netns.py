"""Several hosts on one machine: network namespaces on one switch, whose wires can be cut, one way or both.

Everything lies in namespaces of its own, the switch too: nothing changes in the network of the machine, and all is gone
when they are. A cut drops packets in the switch, silently: a black hole, as a firewall or a lost route makes it.
"""

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

NETWORK = "10.77.0"
_CLONE_NEWNET = 0x40000000
_PREFIX = "isthmus-test-"
_RULES = """
table bridge wires {
  set cut { type ipv4_addr . ipv4_addr; }
  chain forward { type filter hook forward priority 0; policy accept; ip saddr . ip daddr @cut drop; }
}
"""
_libc = ctypes.CDLL(None, use_errno=True)


class NoNamespaces(Exception):
    """This machine cannot make such a network; the sentence says what is missing."""


def _run(*words: str, stdin: str = "") -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise NoNamespaces(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside_network(namespace: Path) -> Iterator[None]:
    """Sockets opened and processes started in the block belong to this network namespace (a file) for life.

    It is the thread that moves, so nothing may be awaited in the block.
    """
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(here)
    finally:
        os.close(here)
        os.close(there)


class Host:
    """A host with one address on the switch, and a loopback network of its own."""

    def __init__(self, name: str, namespace: str, address: str) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address

    def command(self, *words: str | Path) -> Sequence[str | Path]:
        """The command line that runs a program on this host."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def ip(self, *words: str) -> None:
        """Change this host's addresses, routes or links."""
        _run("ip", "-n", self.namespace, *words)

    def queue(self, *words: str) -> None:
        """Change how packets leave this host (tc-qdisc(8))."""
        _run("tc", "-n", self.namespace, "qdisc", *words)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What the block does, it does on this host: sockets opened and processes started in it belong here for life.

        It is the thread that moves, so nothing may be awaited in the block.
        """
        with inside_network(Path(f"/run/netns/{self.namespace}")):
            yield


class Network:
    """A switch with hosts; leaving it ends every process that is still on one of them, and takes all away.

    Raises NoNamespaces where it cannot be made.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self._name = f"{_PREFIX}{os.getpid()}"
        self._switch = f"{self._name}-switch"
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        absent = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
        if absent:
            raise NoNamespaces(f"{' and '.join(absent)} not found: apt-get install iproute2 nftables")
        self._clear_what_died()
        self._add(self._switch)
        try:
            _run("ip", "-n", self._switch, "link", "add", "switch", "type", "bridge")
            _run("ip", "-n", self._switch, "link", "set", "switch", "up")
            _run("ip", "netns", "exec", self._switch, "nft", "-f", "-", stdin=_RULES)
        except BaseException:
            self._remove(self._name)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove(self._name)

    def host(self, name: str) -> Host:
        """Add a host."""
        number = next(self._numbers)
        host = Host(name, f"{self._name}-{name}", f"{NETWORK}.{number}")
        self._add(host.namespace)
        port = f"port{number}"
        wire = ("eth0", "type", "veth", "peer", "name", port, "netns", self._switch)
        host.ip("link", "add", *wire)
        host.ip("address", "add", f"{host.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            host.ip("link", "set", device, "up")
        _run("ip", "-n", self._switch, "link", "set", port, "master", "switch", "up")
        self.hosts[name] = host
        return host

    def cut(self, one: Host, *others: Host) -> None:
        """Packets between `one` and each of the others vanish, in both directions and from one moment to the next."""
        pairs = [pair for other in others for pair in ((one, other), (other, one))]
        self._nft("add element bridge wires cut", pairs)

    def cut_off(self, host: Host) -> None:
        """Packets between this host and every other vanish."""
        self.cut(host, *(other for other in self.hosts.values() if other is not host))

    def cut_one_way(self, source: Host, target: Host) -> None:
        """Packets from `source` to `target` vanish; those that come back would pass."""
        self._nft("add element bridge wires cut", [(source, target)])

    def heal(self) -> None:
        """Every wire is whole again."""
        self._nft("flush set bridge wires cut", [])

    def unplug(self, host: Host) -> None:
        """Take the cable out: its own kernel notices, nobody else's does."""
        host.ip("link", "set", "eth0", "down")

    def plug(self, host: Host) -> None:
        host.ip("link", "set", "eth0", "up")

    def _nft(self, what: str, pairs: list[tuple[Host, Host]]) -> None:
        elements = ", ".join(f"{source.address} . {target.address}" for source, target in pairs)
        braced = [f"{{ {elements} }}"] if pairs else []
        _run("ip", "netns", "exec", self._switch, "nft", *what.split(), *braced)

    @staticmethod
    def _add(namespace: str) -> None:
        try:
            _run("ip", "netns", "add", namespace)
        except NoNamespaces as error:
            raise NoNamespaces(f"no network namespaces here (a container without CAP_SYS_ADMIN?): {error}") from error

    @staticmethod
    def _remove(prefix: str) -> None:
        """Take away the namespaces with this beginning of the name, and end what runs in them."""
        for line in _run("ip", "netns", "list").splitlines():
            namespace = line.split()[0]
            if namespace.startswith(f"{prefix}-"):
                for pid in _run("ip", "netns", "pids", namespace).split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                _run("ip", "netns", "del", namespace)

    def _clear_what_died(self) -> None:
        """Take away what a killed test run has left."""
        names = [line.split()[0] for line in _run("ip", "netns", "list").splitlines()]
        owners = {name.removeprefix(_PREFIX).split("-")[0] for name in names if name.startswith(_PREFIX)}
        for owner in owners:
            if not Path(f"/proc/{owner}").exists():
                self._remove(f"{_PREFIX}{owner}")
