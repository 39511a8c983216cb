"""A whole federation of real processes for a test: controller with etcd, clusters with gateway, Envoy and DNS."""

import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from isthmus_gateway.envoy import EnvoyFiles, EnvoyProcess
from isthmus_kit.children import freeze, send
from support import binaries
from support.addresses import LoopbackNet, free_port
from support.command import isthmus
from support.process import Process
from support.waiting import wait_until

DNS_PORT = 5353
BACKEND = Path(__file__).parent / "echo_backend.py"


class RunningController:
    """A federation with its controller running, and the home folder from which the command reaches it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.net = LoopbackNet()
        self.address = self.net.address(1)
        self.process: Process | None = None
        self._grpc, self._admin = free_port(self.address), free_port(self.address)
        self.environment = {
            **os.environ,
            "ISTHMUS_HOME": str(self.home),
            "ISTHMUS_ENVOY": str(binaries.envoy()),
            "ISTHMUS_ETCD": str(binaries.etcd()),
        }

    def __enter__(self) -> Self:
        self.cli("init", "--domain", "fed.test", "--controller", f"{self.address}:{self._admin}")
        self.start_controller()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_controller()
        self.net.close()

    def start_controller(self) -> None:
        """Start the controller and wait until it answers."""
        listen = ["--listen", f"{self.address}:{self._grpc}", "--admin-listen", f"{self.address}:{self._admin}"]
        self.process = self.spawn("controller", "controller", *listen)
        wait_until(self._answers, within=30, every=0.1)

    @property
    def grpc(self) -> str:
        """Where gateways reach the controller."""
        return f"{self.address}:{self._grpc}"

    @property
    def admin(self) -> str:
        """Where the command and joining clusters reach the controller."""
        return f"{self.address}:{self._admin}"

    def stop_controller(self) -> None:
        if self.process is not None:
            self.process.stop()

    def cli(self, *words: str, ok: bool = True) -> str:
        """Run one command; gives what it printed, and fails with its error unless `ok` is False."""
        done = isthmus(*words, home=self.home)
        assert done.returncode == 0 or not ok, f"isthmus {' '.join(words)}: {done.stderr}{done.stdout}"
        return done.stdout if ok else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.cli(*words, "--output", "json"))

    def spawn(self, name: str, *words: str) -> Process:
        """Start a long-running command; its log is `<home>/<name>.log`."""
        self.home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "isthmus_cli.main", *words]
        return Process(command, self.home / f"{name}.log", self.environment, shared=True).start()

    def _answers(self) -> bool:
        assert self.process is not None
        if not self.process.running:
            raise self.process.ended()
        # A command costs a second of work, which the controller that starts needs itself.
        with socket.socket() as probe:
            if probe.connect_ex((self.address, self._admin)) != 0:
                return False
        return isthmus("status", home=self.home).returncode == 0


class Member:
    """One cluster: its processes, its own part of the loopback network, its service documents."""

    def __init__(self, federation: "Federation", name: str, locality: str) -> None:
        self.federation = federation
        self.name = name
        self.locality = locality
        self.net = LoopbackNet()
        self.gateway_address = self.net.address(1)
        self.folder = federation.home / "clusters" / name
        self.network = ""
        self.dns_words: tuple[str, ...] = ()
        """More settings of the DNS server, to be given before it starts."""
        self.processes: dict[str, Process] = {}
        self._frozen: list[int] = []

    def join(self) -> None:
        """Register the cluster, and join it with its token."""
        token = self.federation.home / f"{self.name}.token"
        network = ["--network", self.network] if self.network else []
        words = ["--locality", self.locality, "--token-file", str(token), *network]
        self.federation.cli("cluster", "register", self.name, *words)
        self.federation.cli("cluster", "join", "--token-file", str(token))

    def start(self) -> None:
        """Start the gateway and the DNS server, without waiting."""
        self.start_gateway()
        listen = ("--listen", f"{self.net.address(53)}:{DNS_PORT}")
        words = ("dns", "--cluster", self.name, *listen, *self.dns_words)
        self.processes["dns"] = self.federation.spawn(f"{self.name}-dns", *words)

    def start_gateway(self) -> None:
        self.processes["gateway"] = self.federation.spawn(
            f"{self.name}-gateway",
            *("gateway", "--cluster", self.name, "--listen", f"{self.gateway_address}:15443"),
            *("--vip-range", f"{self.net.prefix}.128/25", "--web-listen", f"{self.gateway_address}:15020"),
        )

    def wait_ready(self, within: float = 30.0) -> None:
        wait_until(lambda: not self.missing(), within, every=0.05)

    def missing(self) -> Mapping[str, str]:
        """What `/readyz` of the gateway says is missing; {"gateway": ...} when nobody answers."""
        if not self.processes["gateway"].running:
            raise self.processes["gateway"].ended()
        try:
            with urllib.request.urlopen(f"http://{self.gateway_address}:15020/readyz", timeout=2) as answer:
                return dict(json.loads(answer.read())["missing"])
        except urllib.error.HTTPError as error:
            return dict(json.loads(error.read())["missing"])
        except OSError as error:
            return {"gateway": str(error)}

    def start_backend(self, name: str = "", host: int = 10, port: int = 8080) -> Process:
        """A backend that answers HTTP and lines of text with its name (the cluster's by default)."""
        address = self.net.address(host)
        command = [sys.executable, str(BACKEND), name or self.name, address, str(port)]
        process = Process(command, self.federation.home / f"{self.name}-{host}.log", shared=True).start()
        self.processes[f"backend-{host}-{port}"] = process
        process.wait_for_port(address, port)
        return process

    def describe(self, document: str, file: str = "services.yaml") -> None:
        """Write a file of service documents, atomically."""
        path = self.folder / "services" / file
        path.with_suffix(".tmp").write_text(document)
        path.with_suffix(".tmp").rename(path)

    def offer(
        self,
        name: str = "echo",
        port: int = 8080,
        hosts: tuple[int, ...] = (10,),
        protocol: str = "http",
        check: str = "",
        dns: str = "",
    ) -> None:
        """Describe and export the service shop/<name> with one endpoint for each backend host.

        `dns` says what it is answered with: the gateway (the default) or its endpoints.
        """
        export = f"spec: {{exportedAnnotations: {{isthmus.dev/dns: {dns}}}}}\n" if dns else ""
        health = check or ("http: {path: /healthz}" if protocol == "http" else "tcp: {}")
        endpoints = "".join(f"  - address: {self.net.address(host)}\n" for host in hosts)
        self.describe(
            "apiVersion: isthmus.dev/v1alpha1\nkind: Service\n"
            f"metadata: {{namespace: shop, name: {name}}}\n"
            f"spec:\n  ports:\n  - {{name: {protocol}, port: {port}}}\n"
            f"  endpoints:{' []' if not hosts else ''}\n{endpoints}"
            f"  healthCheck:\n    {health}\n"
            "---\napiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n"
            f"metadata: {{namespace: shop, name: {name}}}\n{export}",
            f"{name}.yaml",
        )

    def resolve(self, name: str, kind: str = "A") -> list[str]:
        """The records that this cluster's DNS gives for `name` (without the final dot); [] for none."""
        query = dns.message.make_query(name, kind)
        answer = dns.query.udp(query, self.net.address(53), timeout=2, port=DNS_PORT)
        wanted = dns.rdatatype.from_text(kind)
        return [record.to_text() for rrset in answer.answer if rrset.rdtype == wanted for record in rrset]

    def vip(self, service: str = "echo", within: float = 20.0) -> str:
        """The address of shop/<service> here, once DNS knows it."""

        def known() -> str:
            try:
                return "".join(self.resolve(f"{service}.shop.svc.clusterset.local"))
            except (OSError, dns.exception.DNSException):
                return ""

        return wait_until(known, within, every=0.02)

    def freeze(self) -> None:
        """Everything in the cluster stops in the middle of its work, Envoy included."""
        started = [process.pid for process in self.processes.values() if process.running]
        adopted = self.envoy()  # no child of an agent that was started after it
        self._frozen = freeze([*started, *([adopted] if adopted else [])])

    def thaw(self) -> None:
        """What was frozen goes on."""
        send([*self._frozen, *(process.pid for process in self.processes.values() if process.running)], signal.SIGCONT)
        self._frozen = []

    def kill(self) -> None:
        """The whole cluster is gone from one moment to the next."""
        self.freeze()
        send(self._frozen, signal.SIGKILL)
        self._frozen = []
        for process in self.processes.values():
            process.kill()

    def envoy(self) -> int | None:
        """The process id of the cluster's Envoy, whoever started it."""
        return EnvoyProcess(binaries.envoy(), EnvoyFiles(self.folder)).running_pid()

    def restore(self) -> None:
        """Start what a test has killed, and let go on what it has frozen; without waiting."""
        self.thaw()
        for name, process in self.processes.items():
            if not process.running:
                process.stop()
                process.start()
                if name.startswith("backend"):
                    _, host, port = name.split("-")
                    process.wait_for_port(self.net.address(int(host)), int(port))

    def ask_to_stop(self) -> None:
        """Tell everything to end, without waiting: several clusters end side by side."""
        self.thaw()
        for process in self.processes.values():
            process.ask_to_stop()

    def stop(self) -> None:
        """Wait until everything has ended. A gateway takes its Envoy with it, unless it was killed."""
        statuses = {name: process.stop(within=30) for name, process in self.processes.items()}
        left = self.envoy()
        while (one := self.envoy()) is not None:
            send([one], signal.SIGKILL)
            wait_until(lambda: not Path(f"/proc/{one}/exe").exists())
        self.net.close()
        # Killed by the test, or asked to end before it was told how to.
        killed = statuses.get("gateway") in (None, -signal.SIGTERM)
        words = f"the gateway of {self.name} left its Envoy behind"
        assert killed or left is None, f"{words}: {self.processes['gateway'].output()[-2000:]}"


class Federation(RunningController):
    """A controller and clusters that have joined and are ready."""

    def __init__(self, folder: Path, **clusters: str) -> None:
        """`clusters`: name = locality."""
        super().__init__(folder)
        self.members = {name: Member(self, name, locality) for name, locality in clusters.items()}

    def __enter__(self) -> Self:
        try:
            super().__enter__()
            for member in self.members.values():
                member.join()
                member.start()
            for member in self.members.values():
                member.wait_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:  # whatever one of them does, the others and the controller are stopped
            stack.callback(super().__exit__, kind, error, trace)
            for member in self.members.values():
                member.ask_to_stop()
                stack.callback(member.stop)

    def restore(self) -> None:
        """Everything runs again, and every gateway is ready."""
        if self.process is None or not self.process.running:
            self.start_controller()
        for member in self.members.values():
            member.restore()
        for member in self.members.values():
            member.wait_ready()

    def __getitem__(self, name: str) -> Member:
        return self.members[name]
