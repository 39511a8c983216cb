"""A federation whose controller and clusters each have a host of their own, with the product's own ports everywhere."""

import asyncio
import contextlib
import json
import signal
import socket
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import dns.message
import dns.query
import dns.rdatatype

from support.addresses import LoopbackNet
from support.command import isthmus
from support.federation import Federation, Member
from support.netns import Host, Network
from support.process import Process
from support.traffic import HttpLoad, LineLoad


class OneAddress(LoopbackNet):
    """A host that has one address for everything."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def address(self, host: int) -> str:
        return self._address


class HostMember(Member):
    """A cluster on its own host: gateway, Envoy and DNS as they are without any option, backends on its address."""

    def __init__(self, federation: "HostFederation", name: str, locality: str, host: Host) -> None:
        super().__init__(federation, name, locality)
        self.net.close()
        self.net = OneAddress(host.address)
        self.gateway_address = "127.0.0.1"  # of /readyz
        self.host = host
        self.options: list[str] = []
        """More options of the gateway."""

    def join(self) -> None:
        token = self.federation.home / f"{self.name}.token"
        self.federation.cli("cluster", "register", self.name, "--locality", self.locality, "--token-file", str(token))
        with self.host.inside():
            done = isthmus("cluster", "join", "--token-file", str(token), home=self.federation.home)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        self.start_gateway()
        with self.host.inside():
            self.processes["dns"] = self.federation.spawn(f"{self.name}-dns", "dns", "--cluster", self.name)

    def start_gateway(self) -> None:
        words = ("gateway", "--cluster", self.name, *self.options)
        with self.host.inside():
            self.processes["gateway"] = self.federation.spawn(f"{self.name}-gateway", *words)

    def missing(self) -> Mapping[str, str]:
        with self.host.inside():
            return super().missing()

    def unreachable(self) -> list[str]:
        """The clusters that this one's gateway cannot reach."""
        with self.host.inside(), urllib.request.urlopen("http://127.0.0.1:15020/v1/state", timeout=5) as answer:
            return [str(one["id"]) for one in json.loads(answer.read())["clusters"] if one["unreachable"]]

    def start_backend(self, name: str = "", host: int = 10, port: int = 8080) -> Process:
        with self.host.inside():
            return super().start_backend(name, host, port)

    def restore(self) -> None:
        with self.host.inside():
            super().restore()

    def resolve(self, name: str, kind: str = "A") -> list[str]:
        query, wanted = dns.message.make_query(name, kind), dns.rdatatype.from_text(kind)
        with self.host.inside():
            answer = dns.query.udp(query, "127.0.0.1", timeout=2)
        return [record.to_text() for rrset in answer.answer if rrset.rdtype == wanted for record in rrset]


class HostFederation(Federation):
    """A controller and clusters, a host for each."""

    members: dict[str, HostMember]  # type: ignore[assignment]  # nobody adds another kind

    def __init__(self, folder: Path, network: Network, **clusters: str) -> None:
        """`clusters`: name = locality."""
        super().__init__(folder)
        self.network = network
        self.host = network.host("controller")
        self.address = self.host.address
        self._grpc, self._admin = 15010, 15014
        self.members = {n: HostMember(self, n, locality, network.host(n)) for n, locality in clusters.items()}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members.values():  # all at once: each takes its time to say farewell
            for process in member.processes.values():
                process.send(signal.SIGTERM)
        super().__exit__(kind, error, trace)

    def start_controller(self) -> None:
        with self.host.inside():
            super().start_controller()

    def cli(self, *words: str, ok: bool = True) -> str:
        with self.host.inside():
            return super().cli(*words, ok=ok)

    def state_of(self, cluster: str) -> str:
        """The word that `isthmus status` has for a cluster."""
        return next(str(one["state"]) for one in self.status()["clusters"] if one["id"] == cluster)

    def status(self) -> Any:
        """What `isthmus status` says; it exits with 1 when a cluster is lost."""
        with self.host.inside():
            done = isthmus("status", "--output", "json", home=self.home)
        return json.loads(done.stdout)

    def __getitem__(self, name: str) -> HostMember:
        return self.members[name]


async def connect(host: Host, address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TCP connection from this host."""
    with host.inside():
        wire = socket.socket()
    with contextlib.ExitStack() as unless_connected:
        unless_connected.enter_context(wire)
        wire.setblocking(False)
        await asyncio.get_running_loop().sock_connect(wire, address)
        streams = await asyncio.open_connection(sock=wire)
        unless_connected.pop_all()
        return streams


class HttpLoadAt(HttpLoad):
    """The load of a client on this host."""

    def __init__(self, host: Host, name: str, vip: str, port: int, rate: float, deadline: float = 5.0) -> None:
        super().__init__(name, vip, port, rate, deadline)
        self._host = host

    async def _ask(self) -> str:
        if not self._idle:
            self._idle.append(await connect(self._host, self._address))
        return await super()._ask()


class LineLoadAt(LineLoad):
    """The same with a new TCP connection for each line."""

    def __init__(self, host: Host, name: str, vip: str, port: int, rate: float, deadline: float = 5.0) -> None:
        super().__init__(name, vip, port, rate, deadline)
        self._host = host

    async def _greet(self) -> str:
        reader, writer = await connect(self._host, self._address)
        try:
            writer.write(b"isthmus\n")
            return self._name_in((await reader.readline()).decode().strip())
        finally:
            writer.close()
