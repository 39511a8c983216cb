"""Run a gateway: what its parts know goes to Envoy, to DNS and to the federation, each change by itself."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Final

import grpc.aio
from prometheus_client import CollectorRegistry

from isthmus_core.errors import InvalidInput
from isthmus_core.model import Gateway, Here, LocalServices
from isthmus_core.names import ClusterId
from isthmus_gateway.controllers import EXPORTS, Controllers
from isthmus_gateway.envoy import Admin, EnvoyFiles, EnvoyProcess, EnvoyState, HealthLog, Verdict, find_envoy
from isthmus_gateway.envoy_feed import EnvoyFeed, Refusal
from isthmus_gateway.fleet import FleetTable, Touched
from isthmus_gateway.identity import gateway_identity_source
from isthmus_gateway.membership import Membership, read_membership
from isthmus_gateway.offers import Offers
from isthmus_gateway.remotes import Remotes
from isthmus_gateway.resources import (
    EnvoySettings,
    Resources,
    Side,
    build_bootstrap,
    build_export,
    build_export_assignments,
    build_identity,
    build_ingress,
    build_remote,
    build_trust,
    parse_cluster_name,
)
from isthmus_gateway.resources.names import INGRESS
from isthmus_gateway.routes import Routes
from isthmus_gateway.settings import GatewaySettings
from isthmus_gateway.snapshot import Snapshot, SnapshotWriter, load
from isthmus_gateway.sources.files import FileSource
from isthmus_gateway.startup import check_listen, own_folder
from isthmus_gateway.vips import parse_range
from isthmus_gateway.zone_feed import ZoneFeed
from isthmus_kit.latest import Latest
from isthmus_kit.pki import Identity, IdentitySource
from isthmus_kit.readiness import Readiness
from isthmus_kit.tasks import Owner, own_tasks
from isthmus_kit.telemetry import new_registry
from isthmus_kit.web import make_app, serving, serving_on_socket
from isthmus_sync import (
    ADS_METHOD,
    GATEWAY,
    ZONE_METHOD,
    Caller,
    Publishing,
    new_server,
    publisher_handler,
)

log = logging.getLogger(__name__)

TICK_S = 0.1
SLOW_TICKS = 10  # what needs no hurry is looked at once in so many ticks
RETRY_TICKS = 50
SNAPSHOT_TICKS = 600
FAREWELL_S = 1.0


async def run_gateway(settings: GatewaySettings, stop: asyncio.Event | None = None) -> None:
    """Run until `stop` is set, then leave the federation's traffic in order; raises InvalidInput when it cannot start.

    When it is cancelled instead, Envoy ends at once. When the process is killed, Envoy goes on and is adopted by the
    next agent.
    """
    settings = settings.checked()
    member = read_membership(settings.data_dir)
    with own_folder(settings.data_dir):
        identity = gateway_identity_source(settings.data_dir)
        agent = Agent(settings, member, identity, new_registry(), find_envoy())
        await agent.run(stop or asyncio.Event())


class Agent:
    """The parts of one gateway and the callbacks between them. Everything happens on one event loop."""

    def __init__(
        self,
        settings: GatewaySettings,
        member: Membership,
        identity: IdentitySource,
        registry: CollectorRegistry,
        program: Path,
    ) -> None:
        self.settings: Final = settings
        self.member: Final = member
        self.registry: Final = registry
        self.readiness: Final = Readiness("federation", "envoy", "ingress")
        self.version: Final = metadata.version("isthmus")
        self.gateway: Final = Gateway(
            settings.gateway_id, member.id, settings.advertise_address, settings.advertise_port, self.version
        )
        self.files: Final = FileSource(settings.services_dir, member.locality, registry)
        self.fleet: Final = FleetTable()
        self.envoy_files: Final = EnvoyFiles(settings.data_dir.absolute())
        self.admin: Final = Admin(self.envoy_files.admin_socket)
        self.process: Final = EnvoyProcess(program, self.envoy_files, settings.envoy_concurrency)
        self.envoy_state: Final = Latest(EnvoyState(running=False, why="not started yet"))
        self.envoy_restarts = -1
        self.feed: Final = EnvoyFeed(self._on_refusals)
        self.zone: Final = ZoneFeed(member.id, 0)
        self.offers: Final = Offers(member.id, time.monotonic, _wall_ms)
        self.remotes: Final = Remotes()
        here = Here(member.id, member.locality, member.network)
        pool = parse_range(settings.vip_range)
        self.routes: Final = Routes(here, self.fleet, self.offers.capacities, self.feed, self.zone, pool)
        self.controllers: Final = Controllers(
            settings.controllers or member.controllers,
            f"controller.{member.domain}",
            identity.latest,
            self.fleet,
            self.offers.publication,
            self._on_touched,
            self._on_link,
        )
        self.snapshots: Final = SnapshotWriter(
            settings.data_dir / "snapshot", self._snapshot, lambda sentence: self.readiness.warn("snapshot", sentence)
        )
        self._identity = identity
        self._health = HealthLog(self.envoy_files.health_log, self.admin)
        self._reserved = frozenset({settings.listen_address, settings.advertise_address})
        self._known = False
        """Whether the fleet is known: from a snapshot, or told by a controller."""
        self._exported: dict[object, object] = {}

    # -- life ---------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        from isthmus_gateway.control import add_routes, register_metrics

        register_metrics(self)
        if self.process.running_pid() is None:
            check_listen(self.settings.listen_address, self.settings.listen_port)
        self.envoy_files.check()
        self._restore()
        self.files.load()
        self._take_identity(self._identity.value)
        self.feed.put(
            "ingress", Resources(listeners=build_ingress(self.settings.listen_address, self.settings.listen_port))
        )
        self._take_services(self.files.services.value)
        self.offers.mark_described()
        app = make_app(self.readiness, self.registry)
        add_routes(app, self)
        local_app = make_app(self.readiness, self.registry)
        add_routes(local_app, self)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(serving(app, self.settings.web_address, self.settings.web_port))
            await stack.enter_async_context(serving_on_socket(local_app, self.settings.data_dir / "agent.sock"))
            await stack.enter_async_context(_feeding(self.envoy_files.xds_socket, ADS_METHOD, self._envoy_stream()))
            await stack.enter_async_context(
                _feeding(self.settings.data_dir / "zone.sock", ZONE_METHOD, Publishing(self.zone.publication))
            )
            await self._serve(stop)

    async def _serve(self, stop: asyncio.Event) -> None:
        drain = 0.0
        try:
            async with own_tasks() as tasks:
                self._start_parts(tasks)
                await stop.wait()
                await self._say_farewell()
                drain = self.settings.drain_s
        finally:
            # Reached in good order, by a bug or by cancellation: after a bug Envoy goes on serving without us.
            await self._end(drain, orderly=stop.is_set())

    def _start_parts(self, tasks: Owner) -> None:
        self.readiness.set("envoy", ok=False, why="Envoy is starting")
        bootstrap = build_bootstrap(
            EnvoySettings(
                f"{self.member.id}/{self.settings.gateway_id}",
                self.member.id,
                str(self.envoy_files.xds_socket),
                str(self.envoy_files.admin_socket),
            )
        )
        tasks.start("envoy", self.process.run(bootstrap, self._on_envoy))
        tasks.start("envoy readiness", self._watch_envoy())
        tasks.start("verdicts", self._health.follow(self._on_verdicts))
        tasks.start("routes", self.routes.run(self._on_computed))
        tasks.start("files", self.files.run())
        tasks.start("services", self._follow_services())
        tasks.start("file problems", self._follow_problems())
        tasks.start("identity", self._identity.run())
        tasks.start("identity changes", self._follow_identity())
        tasks.start("imports", self.controllers.follow())
        tasks.start("exports", self.controllers.offer())
        tasks.start("snapshot", self.snapshots.run())
        tasks.start("tick", self._tick())

    async def _say_farewell(self) -> None:
        """First nobody is sent here any more, then the controllers tell the others, then Envoy may go."""
        log.info("gateway stops", extra={"gateway": self.gateway.id})
        self.readiness.stop()
        announced = self.gateway.id in self.offers.publication[GATEWAY]
        self.offers.withdraw_gateway()
        if announced and self.controllers.links[EXPORTS].connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self.controllers.withdrawn(GATEWAY, self.gateway.id)
            await asyncio.sleep(min(FAREWELL_S / 2, self.settings.drain_s))

    async def _end(self, drain: float, orderly: bool) -> None:
        current = asyncio.current_task()
        if orderly or (current is not None and current.cancelling()):
            await self.process.stop(drain)
        if self._known:
            await self.snapshots.flush()
        log.info("gateway stopped", extra={"gateway": self.gateway.id})

    def _envoy_stream(self) -> Publishing:
        return Publishing(self.feed.publication, on_acked=self.feed.on_acked, on_nacked=self.feed.on_nacked)

    # -- what is known of the federation -----------------------------------------------------------------------

    def _restore(self) -> None:
        snapshot, sentence = load(self.settings.data_dir / "snapshot", self.member.id)
        if sentence:
            log.warning("snapshot cannot be used", extra={"reason": sentence})
            self.readiness.warn("snapshot", sentence)
        if snapshot is None:
            self.readiness.set(
                "federation", ok=False, why="no controller has told anything yet, and there is no snapshot"
            )
            return
        self.routes.restore_vips(snapshot.vips)
        self.zone.serial = snapshot.zone_serial
        age = max(0.0, (_wall_ms() - snapshot.saved_at_ms) / 1000)
        self.controllers.confirmed_at = time.monotonic() - age
        self._on_touched(self.fleet.restore(snapshot.resources))
        log.info("last known state restored", extra={"services": len(self.fleet.imports), "age_s": round(age, 1)})
        self._become_known()

    def _become_known(self) -> None:
        """From now on Envoy and DNS are told; what they are told is complete."""
        self._known = True
        self.routes.compute()
        self.feed.mark_synced()
        self.zone.mark_synced(int(time.time()))
        self.readiness.set("federation", ok=True)

    def _on_touched(self, touched: Touched) -> None:
        for name, reason in touched.rejected.items():
            log.warning("resource of the controller refused", extra={"resource": name, "reason": reason})
        if touched.imports:
            self.routes.allocate_vips(self._reserved)
            self._warn_about_vips()
        for cluster in touched.clusters:
            self.remotes.retain(cluster, self.fleet.clusters.get(cluster))
            self._tell_cluster(cluster)
        if touched.clusters:
            self._tell_trust()
        self.routes.touch(touched.services)
        self.snapshots.changed()

    def _tell_cluster(self, cluster: ClusterId) -> None:
        """Tell Envoy the way to a cluster, and whether there is one now."""
        known = self.fleet.clusters.get(cluster)
        self._note_reach(cluster)
        if known is None or cluster == self.member.id:
            self.feed.remove(f"cluster/{cluster}")
            return
        unreachable = cluster in self.routes.unreachable
        resources = build_remote(known, str(self.envoy_files.health_log), unreachable, self.remotes.probe_ms(cluster))
        self.feed.put(f"cluster/{cluster}", resources)

    def _note_reach(self, cluster: ClusterId) -> bool:
        """Whether the cluster became reachable or unreachable; its services are then looked at again."""
        lost = self.remotes.unreachable(cluster)
        if lost == (cluster in self.routes.unreachable):
            return False
        (self.routes.unreachable.add if lost else self.routes.unreachable.discard)(cluster)
        log.warning("cluster unreachable" if lost else "cluster reachable again", extra={"cluster": cluster})
        self.routes.touch(self.fleet.services_of(cluster))
        return True

    def _on_link(self) -> None:
        if self.controllers.synced and not self._known:
            self._become_known()
        why = "; ".join(
            f"{stream}: {link.address}: {link.why}"
            for stream, link in self.controllers.links.items()
            if not link.connected and link.address
        )
        self.readiness.warn(
            "controllers", f"no controller answers, the last known state is served ({why})" if why else ""
        )
        refused = "; ".join(f"{name}: {reason}" for (_, name), reason in sorted(self.controllers.refused.items()))
        self.readiness.warn("exports", f"the controller did not accept {refused}" if refused else "")

    def _warn_about_vips(self) -> None:
        names = ", ".join(str(name) for name in self.routes.exhausted[:5])
        more = f" and {len(self.routes.exhausted) - 5} more" if len(self.routes.exhausted) > 5 else ""
        sentence = f"no address is left in {self.settings.vip_range} for {names}{more}. Give a larger --vip-range."
        self.readiness.warn("vips", sentence if names else "")

    # -- what this cluster has ------------------------------------------------------------------------------------

    async def _follow_services(self) -> None:
        async for services in self.files.services.follow():
            self._take_services(services)

    def _take_services(self, services: LocalServices) -> None:
        health_log = str(self.envoy_files.health_log)
        with self.feed.publication.change(), self.offers.publication.change():
            for name in self.routes.set_local(services):
                local = services.get(name)
                self.offers.describe(name, local)
                if local is None or local.export is None:
                    self._exported.pop(name, None)
                    self.feed.remove(f"export/{name}")
                    continue
                # Endpoints change often and the cluster around them seldom.
                shape = (local.type, local.ports, local.health_check)
                if self._exported.get(name) != shape:
                    self._exported[name] = shape
                    self.feed.put(f"export/{name}", build_export(local, health_log))
                else:
                    self.feed.put_endpoints(build_export_assignments(local))

    async def _follow_problems(self) -> None:
        async for state in self.files.state.follow():
            self.readiness.warn("files", state.sentence)

    async def _follow_identity(self) -> None:
        async for identity in self._identity.latest.follow():
            self._take_identity(identity)

    def _take_identity(self, identity: Identity) -> None:
        self.feed.put("identity", Resources(secrets=build_identity(identity.chain, identity.key)))
        self._tell_trust()

    def _tell_trust(self) -> None:
        roots = self._identity.value.roots
        self.feed.put("trust", Resources(secrets=build_trust(roots, self.member.id, self.fleet.clusters.values())))

    # -- what Envoy says ------------------------------------------------------------------------------------------

    def _on_envoy(self, state: EnvoyState) -> None:
        if state.running:
            self.envoy_restarts += 1
            self._health.read_again()
        self.readiness.set("envoy", ok=False, why=state.why or "Envoy is starting")
        self.envoy_state.publish(state)

    async def _watch_envoy(self) -> None:
        """Ready is Envoy when it says so; only then others are told to come here."""
        async for state in self.envoy_state.follow():
            while state.running and self.envoy_state.value is state:
                if await self.admin.ready():
                    self.readiness.set("envoy", ok=True)
                    self.offers.envoy_serves()
                    self._announce()
                    break
                await asyncio.sleep(0.02)

    def _announce(self) -> None:
        refused = next((r.reason for r in self.feed.refusals if r.name == INGRESS), "")
        self.readiness.set("ingress", ok=not refused, why=f"Envoy cannot take tunnels of other clusters: {refused}")
        if not refused:
            self.offers.announce(self.gateway)

    def _on_refusals(self, refusals: tuple[Refusal, ...]) -> None:
        for refusal in refusals:
            log.warning("resource refused by Envoy", extra={"resource": refusal.name, "reason": refusal.reason})
        sentence = "; ".join(f"{refusal.name}: {refusal.reason}" for refusal in refusals[:10])
        self.readiness.warn("envoy resources", f"Envoy refuses {sentence}" if refusals else "")
        if self.readiness.part_ok("envoy"):
            self._announce()

    def _on_verdicts(self, verdicts: tuple[Verdict, ...]) -> None:
        services, clusters = set(), set()
        for verdict in verdicts:
            about = parse_cluster_name(verdict.cluster)
            if about is None:
                continue
            if about.side is Side.LOCAL and about.service is not None:
                if self.offers.note(about.service, verdict.address, verdict.port, verdict.healthy):
                    services.add(about.service)
            elif about.side is Side.GATEWAY and about.cluster is not None:
                self.remotes.note(about.cluster, verdict.address, verdict.port, verdict.healthy)
                clusters.add(about.cluster)
        for cluster in clusters:
            # One listener comes or goes, and all services move with it; their own assignments follow.
            if self.remotes.unreachable(cluster) != (cluster in self.routes.unreachable):
                self._tell_cluster(cluster)
        with self.offers.publication.change():
            for service in services:
                self.offers.judge(service)
        self.routes.touch(services)

    def _on_computed(self) -> None:
        if self._known and self.zone.commit(int(time.time())):
            self.snapshots.changed()

    # -- time -----------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Everything that happens because time goes by."""
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            if self.offers.waiting:
                self.offers.look()
            if ticks % SLOW_TICKS == 0:
                self._look_at_age()
                self.readiness.warn("identity", self._identity.trouble)
                for cluster in self.remotes.patience():
                    self._tell_cluster(cluster)
            if ticks % RETRY_TICKS == 0:
                self.feed.retry_refused()
            if ticks % SNAPSHOT_TICKS == 0 and self._known:
                self.snapshots.changed()

    def _look_at_age(self) -> None:
        age = self.controllers.age(time.monotonic())
        stale = age is None or age > self.settings.stale_after_s
        self.zone.confirm(stale, _wall_ms() - int(1000 * (age or 0.0)))
        if self._known:
            self.zone.commit(int(time.time()))

    def _snapshot(self) -> Snapshot:
        age = self.controllers.age(time.monotonic())
        return Snapshot(
            cluster=self.member.id,
            resources={
                kind: {name: (held.version, held.body) for name, held in names.items()}
                for kind, names in self.fleet.resources.items()
            },
            vips={str(name): address for name, address in self.routes.vips.items()},
            zone_serial=self.zone.serial,
            saved_at_ms=_wall_ms() - int(1000 * (age or 0.0)),
        )


@asynccontextmanager
async def _feeding(path: Path, method: str, publishing: Publishing) -> AsyncIterator[None]:
    """Serve one publication on a unix socket, with a server of its own: what Envoy is told holds a key."""

    @asynccontextmanager
    async def feed(_: Caller) -> AsyncIterator[Publishing]:
        yield publishing

    server: grpc.aio.Server = new_server([publisher_handler(method, lambda caller: caller, feed)])
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise InvalidInput(f"cannot listen on {path}: {error}", "Choose another data directory.") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
        path.unlink(missing_ok=True)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
