"""The Envoy half of a gateway for tests: a real Envoy fed by the real ADS shell from the real builders."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from isthmus_core.merge import merge
from isthmus_core.model import (
    AppProtocol,
    Capacity,
    CheckKind,
    Endpoint,
    Export,
    ExportSpec,
    HealthCheck,
    Here,
    LocalService,
    ServicePort,
    ServiceType,
    ZoneCapacity,
)
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_core.route import ServiceRoute, route
from isthmus_gateway.envoy import (
    Admin,
    EnvoyFiles,
    EnvoyProcess,
    EnvoyState,
    HealthLog,
    Verdict,
    answers_handler,
    find_envoy,
)
from isthmus_gateway.hedges import Hedges
from isthmus_gateway.resources import (
    TYPES,
    EnvoySettings,
    Resources,
    build_assignments,
    build_bootstrap,
    build_export,
    build_identity,
    build_ingress,
    build_remote,
    build_service,
    build_trust,
)
from isthmus_gateway.resources.names import CLUSTER, ENDPOINT, IDENTITY, SECRET
from isthmus_sync import (
    ADS_METHOD,
    ENVOY,
    Nacked,
    Publication,
    Publishing,
    ResourceCache,
    new_server,
    publisher_handler,
)
from support.addresses import LoopbackNet
from support.process import Process
from support.waiting import eventually
from support.world import World

HTTP_CHECK = HealthCheck(CheckKind.HTTP, "/healthz")


class EnvoyGateway:
    """One Envoy with its feed. `unreachable` follows the verdicts on other clusters' gateways, as the agent does."""

    def __init__(self, folder: Path, world: World, name: str, concurrency: int = 1) -> None:
        self.world = world
        self.me = world.members[ClusterId(name)]
        self.files = EnvoyFiles(folder)
        self.admin = Admin(self.files.admin_socket)
        self.health = HealthLog(self.files.health_log, self.admin)
        self.publication = Publication([ResourceCache(type_url) for type_url in TYPES], order=ENVOY)
        self.hedges = Hedges(self.admin, lambda name: name in self.publication[CLUSTER])
        self.process = EnvoyProcess(find_envoy(), self.files, concurrency)
        self.states: list[EnvoyState] = []
        self.verdicts: dict[tuple[str, str, int], bool] = {}
        self.heard: dict[str, float] = {}
        self.nacks: list[Nacked] = []
        self.unreachable: set[ClusterId] = set()
        self.lately: set[ClusterId] = set()
        self.move_services = True
        self.follows_answers = True
        self._services: dict[
            ServiceName, tuple[Mapping[ClusterId, Capacity], LocalService | None, Sequence[Export]]
        ] = {}

    def publish(self, *groups: Resources) -> None:
        with self.publication.change() as caches:
            for group in groups:
                for type_url, resources in group.by_type():
                    for name, body in resources.items():
                        caches[type_url].put(name, body)

    def remove(self, type_url: str, *names: str) -> None:
        with self.publication.change() as caches:
            for name in names:
                caches[type_url].remove(name)

    def join(self) -> None:
        """Everything that does not depend on services."""
        log = str(self.files.health_log)
        others = [c for c in self.world.members.values() if c.id != self.me.id]
        self.publish(
            Resources(secrets=build_identity(*self.world.identity(self.me.id))),
            *(build_remote(other, self.me.id, log) for other in others),
        )
        self.admit()
        with self.publication.change() as caches:
            for cache in caches.values():
                cache.mark_synced()

    def admit(self) -> None:
        """Open the ingress for the members of now, and close it for those that are none any more."""
        mine = self.me.gateways[0]
        trust = build_trust(self.world.roots_pem, self.me.id, self.world.members.values())
        callers = [member for member in self.world.members if member != self.me.id]
        with self.publication.change() as caches:
            for gone in caches[SECRET].names() - trust.keys() - {IDENTITY}:
                caches[SECRET].remove(gone)
            self.publish(Resources(secrets=trust, listeners=build_ingress(mine.address, mine.port, callers)))

    def export(self, local: LocalService) -> None:
        self.publish(build_export(local, str(self.files.health_log)))

    def serve(self, vip: str, local: LocalService | None, far: Iterable[tuple[str, LocalService]] = ()) -> None:
        """Import a service: own endpoints from `local`, other clusters' from (cluster, their local service)."""
        offers = ([(str(self.me.id), local)] if local else []) + list(far)
        exports = [
            Export(s.service, ClusterId(c), s.type, s.ports, first_revision=n) for n, (c, s) in enumerate(offers)
        ]
        capacities = {ClusterId(c): capacity_of(ClusterId(c), s) for c, s in offers}
        service = offers[0][1].service
        self._services[service] = (capacities, local, exports)
        self.publish(build_service(self._route(service), vip, local))

    def _route(self, service: ServiceName) -> ServiceRoute:
        capacities, _, exports = self._services[service]
        here = Here(self.me.id, self.me.locality)
        return route(merge(exports).service, self.world.members, capacities, here, self.unreachable, self.lately)

    def _on_verdicts(self, verdicts: tuple[Verdict, ...]) -> None:
        for verdict in verdicts:
            self.verdicts[verdict.cluster, verdict.address, verdict.port] = verdict.healthy
            self.heard[verdict.cluster] = time.time()
        moved = self._count_own()
        for other in self.world.members.values():
            mine = [ok for (name, _, _), ok in self.verdicts.items() if name == f"gateway/{other.id}"]
            down = bool(mine) and not any(mine)
            if down == (other.id in self.unreachable):
                continue
            (self.unreachable.add if down else self.unreachable.discard)(other.id)
            moved = True
            (self.lately.add if down else self.lately.discard)(other.id)
        if moved:
            self._move()

    def lose_hope(self) -> None:
        """As the agent does after some seconds: who does not answer now is not expected back in a moment."""
        self.lately.clear()
        self._move()

    def _move(self) -> None:
        if self.move_services:
            with self.publication.change() as caches:
                for service, (_, local, _) in self._services.items():
                    for name, body in build_assignments(self._route(service), local).items():
                        caches[ENDPOINT].put(name, body)

    def _count_own(self) -> bool:
        """Follow the verdicts on exported own endpoints; whether anything changed."""
        changed = False
        for service, (capacities, local, exports) in self._services.items():
            if local is None:
                continue
            dead = {
                (address, port)
                for (name, address, port), ok in self.verdicts.items()
                if not ok and name[:6] == "local/"
            }
            alive = [e for e in local.endpoints if not any((e.address, port) in dead for port in e.ports.values())]
            found = {**capacities, self.me.id: capacity_of(self.me.id, local, alive)}
            if found != capacities:
                self._services[service] = (found, local, exports)
                changed = True
        return changed

    def verdict(self, cluster: str) -> list[bool]:
        """The verdicts on all endpoints of one Envoy cluster."""
        return [ok for (name, _, _), ok in self.verdicts.items() if name == cluster]

    async def serving(self, *listeners: str) -> None:
        """Wait until Envoy is ready, has these listeners, and finds the other clusters' gateways healthy."""
        await eventually(self.admin.ready, 20)
        others = [f"gateway/{other.id}" for other in self.world.members.values() if other.id != self.me.id]
        await eventually(lambda: all(any(self.verdict(name)) for name in others), 20)
        for listener in listeners:
            await eventually(lambda name=listener: self.listens(name), 20)  # type: ignore[misc]

    async def listens(self, name: str) -> bool:
        """Whether Envoy has this listener."""
        _, body = await self.admin._ask("GET", "/listeners")
        return any(line.startswith(f"{name}::") for line in body.decode().splitlines())

    def die(self, how: signal.Signals) -> int:
        """Kill or freeze Envoy, and let nobody start it again: the whole gateway is gone. Its pid."""
        pid = self.process.running_pid()
        assert pid is not None
        self._envoy.cancel()
        os.kill(pid, how)
        if how is signal.SIGKILL:
            os.waitpid(pid, 0)
        return pid

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """In the block Envoy stands still; its kernel goes on, and then Envoy finds all that has come in one moment."""
        pid = self.process.running_pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["EnvoyGateway"]:
        """Envoy and its feed, until the block ends."""
        self.files.folder.mkdir(parents=True, exist_ok=True)

        @asynccontextmanager
        async def feed(_: object) -> AsyncIterator[Publishing]:
            yield Publishing(self.publication, on_nacked=self.nacks.append)

        server = new_server(
            [publisher_handler(ADS_METHOD, lambda caller: caller, feed), answers_handler(self.hedges.take)]
        )
        server.add_insecure_port(f"unix:{self.files.xds_socket}")
        await server.start()
        settings = EnvoySettings(
            f"gateway-{self.me.id}", self.me.id, str(self.files.xds_socket), str(self.files.admin_socket)
        )
        try:
            async with asyncio.TaskGroup() as group:
                run = self.process.run(build_bootstrap(settings), self.states.append)
                self._envoy = group.create_task(run, name="envoy")
                parts = [self._envoy, group.create_task(self.health.follow(self._on_verdicts), name="verdicts")]
                if self.follows_answers:
                    parts.append(group.create_task(self.hedges.run(), name="hedges"))
                try:
                    yield self
                finally:
                    for part in parts:
                        part.cancel()
        finally:
            await self.process.stop(drain=0.0)
            await server.stop(None)


def service_of(
    name: str,
    endpoints: Iterable[tuple[str, int]],
    app: AppProtocol = AppProtocol.HTTP,
    locality: str = "aws/eu-west-1/a",
    check: HealthCheck = HTTP_CHECK,
    port: int = 8080,
) -> LocalService:
    """A local service with one port and these endpoints."""
    where = Locality.parse(locality)
    return LocalService(
        ServiceName("shop", name),
        ServiceType.CLUSTER_SET_IP,
        (ServicePort("main", port, app_protocol=app),),
        tuple(Endpoint(address, where, {"main": number}) for address, number in endpoints),
        check,
        export=ExportSpec(),
    )


def capacity_of(cluster: ClusterId, local: LocalService, alive: Sequence[Endpoint] | None = None) -> Capacity:
    """These endpoints are healthy, all of them where nothing is said."""
    ready, total = Counter[Locality](), Counter[Locality]()
    for endpoint in local.endpoints:
        total[endpoint.locality] += endpoint.weight
        ready[endpoint.locality] += endpoint.weight if alive is None or endpoint in alive else 0
    return Capacity(local.service, cluster, tuple(ZoneCapacity(where, ready[where], n) for where, n in total.items()))


class Pair:
    """Two clusters, each with one gateway, on addresses of this test alone; `near` is where cluster b is."""

    def __init__(self, folder: Path, net: LoopbackNet, concurrency: int = 1, near: str = "gcp/eu-west-4/b") -> None:
        self.net = net
        self.folder = folder
        self.world = World()
        self.world.add("a", "aws/eu-west-1/a", [(net.next(), 15443)])
        self.world.add("b", near, [(net.next(), 15443)])
        self.a = EnvoyGateway(folder / "a", self.world, "a", concurrency)
        self.b = EnvoyGateway(folder / "b", self.world, "b", concurrency)
        self.vip = net.next()

    def backend(self, name: str, port: int = 9001, sick: Path | None = None) -> tuple[Process, tuple[str, int]]:
        """An echo backend that was started, and where it listens."""
        where = (self.net.next(), port)
        program = Path(__file__).with_name("echo_backend.py")
        env = {"ISTHMUS_TEST_SICK": str(sick)} if sick else None
        process = Process([sys.executable, program, name, where[0], str(port)], self.folder / f"{name}.log", env)
        process.start().wait_for_line("serving")
        return process, where

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Both gateways, joined."""
        self.a.join()
        self.b.join()
        async with self.a.running(), self.b.running():
            await self.a.serving("ingress", "tunnel/b")
            await self.b.serving("ingress", "tunnel/a")
            yield
