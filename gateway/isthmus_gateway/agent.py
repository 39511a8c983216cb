"""Run a gateway: its Envoy, its sources, its streams, in one group of tasks; and end it in order."""

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress
from importlib import metadata
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from isthmus_core.model import Gateway
from isthmus_gateway.control import Parts, add_routes, register_metrics
from isthmus_gateway.controllers import EXPORTS, Controllers
from isthmus_gateway.distance import distances
from isthmus_gateway.envoy import Admin, EnvoyFiles, EnvoyProcess, EnvoyState, HealthLog, answers_handler, find_envoy
from isthmus_gateway.envoy.refusals import IngressRefusals
from isthmus_gateway.envoy_feed import Refusal
from isthmus_gateway.feeding import feeding
from isthmus_gateway.fleet import Touched
from isthmus_gateway.hedges import Hedges
from isthmus_gateway.hub import Hub, sentence_of
from isthmus_gateway.identity import JOIN_AGAIN, gateway_identity_source
from isthmus_gateway.membership import Membership, MembershipWatch, read_membership
from isthmus_gateway.resources import EnvoySettings, build_bootstrap
from isthmus_gateway.resources.names import CLUSTER, INGRESS
from isthmus_gateway.settings import GatewaySettings
from isthmus_gateway.snapshot import Snapshot, SnapshotWriter, load
from isthmus_gateway.sources.files import FileSource
from isthmus_gateway.startup import own_folder
from isthmus_kit.expiry import ExpiryWatch
from isthmus_kit.latest import Latest
from isthmus_kit.listening import usable_port
from isthmus_kit.pki import IdentitySource
from isthmus_kit.readiness import Readiness
from isthmus_kit.tasks import Owner, own_tasks
from isthmus_kit.telemetry import new_registry
from isthmus_kit.web import make_app, serving, serving_on_socket
from isthmus_sync import ADS_METHOD, GATEWAY, ZONE_METHOD, Publishing

log = logging.getLogger(__name__)

TICK_S = 0.1
SLOW_TICKS = 10  # what needs no hurry is looked at once in so many ticks
RETRY_TICKS = 50
SNAPSHOT_TICKS = 600
FAREWELL_S = 1.0
ASK_ENVOY_S = 0.02


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
    """The shells of one gateway around its hub."""

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
        self.gateway: Final = Gateway(
            settings.gateway_id,
            member.id,
            settings.advertise_address,
            settings.advertise_port,
            metadata.version("isthmus"),
        )
        self.files: Final = FileSource(settings.services_dir, member.locality, registry)
        self.envoy_state: Final = Latest(EnvoyState(running=False, why="not started yet"))
        self._envoy_files: Final = EnvoyFiles(settings.data_dir.absolute())
        self._admin: Final = Admin(self._envoy_files.admin_socket)
        self._process: Final = EnvoyProcess(program, self._envoy_files, settings.envoy_concurrency)
        self._health: Final = HealthLog(self._envoy_files.health_log, self._admin)
        self._refusals: Final = IngressRefusals(self._admin.stats, self.readiness, time.monotonic)
        self._identity: Final = identity
        self._snapshots: Final = SnapshotWriter(settings.data_dir / "snapshot", self._snapshot, self._warn_of_snapshot)
        self.hub: Final = Hub(
            member,
            settings,
            str(self._envoy_files.health_log),
            self.readiness,
            time.monotonic,
            wall_ms,
            self._on_change,
            self._on_refusals,
        )
        self.hedges: Final = Hedges(self._admin, lambda name: name in self.hub.feed.publication[CLUSTER])
        self.controllers: Final = Controllers(
            settings.controllers or member.controllers,
            f"controller.{member.domain}",
            identity.latest,
            self.hub.fleet,
            self.hub.offers.publication,
            self._on_touched,
            self._on_link,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        address = f"{self.gateway.address}:{self.gateway.port}"
        log.info("gateway starts", extra={"cluster": self.member.id, "gateway": self.gateway.id, "address": address})
        parts = Parts(
            self.settings,
            self.member,
            self.gateway,
            self.readiness,
            self.files,
            self.envoy_state,
            self.hub,
            self.controllers,
            self._refusals,
        )
        register_metrics(self.registry, parts)
        if self._process.running_pid() is None:
            # Envoy would only say so in its own log.
            usable_port(self.settings.listen_address, self.settings.listen_port)
        self._envoy_files.check()
        snapshot = self._load_snapshot()
        self.files.load(snapshot.files if snapshot else {})
        self.hub.take_identity(self._identity.value)
        if snapshot is not None:
            self._restore(snapshot)
        self.hub.take_services(self.files.services.value)
        self.hub.offers.mark_described()
        folder, app, local = self.settings.data_dir, *(make_app(self.readiness, self.registry) for _ in range(2))
        add_routes(app, parts)
        add_routes(local, parts)
        envoy = Publishing(
            self.hub.feed.publication,
            on_connected=self.hub.zone.envoy_came,
            on_disconnected=lambda _: self.hub.envoy_went(),
            on_acked=self.hub.envoy_took,
            on_nacked=self.hub.envoy_refused,
        )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(serving(app, self.settings.web_address, self.settings.web_port))
            await stack.enter_async_context(serving_on_socket(local, folder / "agent.sock"))
            await stack.enter_async_context(
                feeding(self._envoy_files.xds_socket, ADS_METHOD, envoy, answers_handler(self.hedges.take))
            )
            zone = Publishing(self.hub.zone.publication)
            await stack.enter_async_context(feeding(folder / "zone.sock", ZONE_METHOD, zone))
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
            # Reached in good order, by cancellation, or by a bug: then Envoy goes on serving without us.
            task = asyncio.current_task()
            if stop.is_set() or (task is not None and task.cancelling()):
                await self._process.stop(drain)
            if self.hub.known:
                await self._snapshots.flush()
            log.info("gateway stopped", extra={"gateway": self.gateway.id})

    def _start_parts(self, tasks: Owner) -> None:
        self.readiness.set("envoy", ok=False, why="Envoy is starting")
        bootstrap = build_bootstrap(
            EnvoySettings(
                f"{self.member.id}/{self.settings.gateway_id}",
                self.member.id,
                str(self._envoy_files.xds_socket),
                str(self._envoy_files.admin_socket),
            )
        )
        tasks.start("envoy", self._process.run(bootstrap, self._on_envoy))
        tasks.start("envoy readiness", self._watch_envoy())
        tasks.start("verdicts", self._health.follow(self.hub.take_verdicts))
        tasks.start("hedges", self.hedges.run())
        tasks.start("routes", self.hub.routes.run(self.hub.computed))
        tasks.start("files", self.files.run())
        tasks.start("services", self._follow_services())
        tasks.start("file problems", self._follow_problems())
        tasks.start("identity", self._identity.run())
        tasks.start("identity changes", self._follow_identity())
        tasks.start("imports", self.controllers.follow())
        tasks.start("exports", self.controllers.offer())
        tasks.start("snapshot", self._snapshots.run())
        tasks.start("tick", self._tick())
        tasks.start("distances", self._measure_distances())
        tasks.start("ingress refusals", self._refusals.run())

    async def _say_farewell(self) -> None:
        """First the controllers tell the others to send nothing here any more; then Envoy may go."""
        log.info("gateway stops", extra={"gateway": self.gateway.id})
        self.readiness.stop()
        announced = self.gateway.id in self.hub.offers.publication[GATEWAY]
        self.hub.offers.withdraw_gateway()
        if announced and self.controllers.links[EXPORTS].connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self.controllers.withdrawn(GATEWAY, self.gateway.id)
            await asyncio.sleep(min(FAREWELL_S / 2, self.settings.drain_s))

    # -- controllers and the snapshot -------------------------------------------------------------------------------

    def _load_snapshot(self) -> Snapshot | None:
        snapshot, sentence = load(self.settings.data_dir / "snapshot", self.member.id)
        if sentence:
            log.warning("snapshot cannot be used", extra={"reason": sentence})
            self._snapshots.warn(sentence)
        if snapshot is None:
            why = "no controller has told anything yet, and there is no snapshot"
            self.readiness.set("federation", ok=False, why=why)
        return snapshot

    def _restore(self, snapshot: Snapshot) -> None:
        age = max(0.0, (wall_ms() - snapshot.saved_at_ms) / 1000)
        self.controllers.confirmed_at = time.monotonic() - age
        if refused := self.hub.restore(snapshot):
            # Another release's. Envoy and DNS would take what is left for all there is, and drop the rest.
            why = f"the snapshot holds what this release cannot use ({next(iter(refused))}), and no controller answers"
            self.readiness.set("federation", ok=False, why=why)
            return
        services = len(self.hub.fleet.imports)
        log.info("last known state restored", extra={"services": services, "age_s": round(age, 1)})

    def _snapshot(self) -> Snapshot:
        return self.hub.snapshot(self.controllers.age(time.monotonic()), self.files.broken)

    def _warn_of_snapshot(self, sentence: str) -> None:
        self.readiness.warn("snapshot", sentence)

    def _on_change(self) -> None:
        # Half a fleet in a snapshot would be taken for a whole one by the next life.
        if self.hub.known:
            self._snapshots.changed()

    def _on_touched(self, touched: Touched) -> None:
        self.hub.take_fleet(touched)

    def _on_link(self) -> None:
        if self.controllers.synced:
            self.hub.become_known()
        self.readiness.warn("controllers", self.controllers.trouble)
        self.readiness.warn("exports", self.controllers.refusals)

    # -- Envoy ------------------------------------------------------------------------------------------------------

    def _on_envoy(self, state: EnvoyState) -> None:
        if state.running:
            self._health.read_again()
            self.hedges.ask_again()
        self.readiness.set("envoy", ok=False, why=state.why or "Envoy is starting")
        self.envoy_state.publish(state)

    async def _watch_envoy(self) -> None:
        """Envoy is ready when it says so; only then others are told to come here."""
        async for state in self.envoy_state.follow():
            while state.running and self.envoy_state.value is state:
                if await self._admin.ready():
                    self.readiness.set("envoy", ok=True)
                    self.hub.offers.envoy_serves()
                    self._announce()
                    log.info("envoy serves", extra={"pid": state.pid})
                    break
                await asyncio.sleep(ASK_ENVOY_S)

    def _announce(self) -> None:
        refused = next((refusal.reason for refusal in self.hub.feed.refusals if refusal.name == INGRESS), "")
        self.readiness.set("ingress", ok=not refused, why=f"Envoy cannot take tunnels of other clusters: {refused}")
        if not refused and not self.readiness.stopping:
            self.hub.offers.announce(self.gateway)

    def _on_refusals(self, refusals: tuple[Refusal, ...]) -> None:
        for refusal in refusals:
            log.warning("resource refused by Envoy", extra={"resource": refusal.name, "reason": refusal.reason})
        self.readiness.warn("envoy resources", sentence_of(refusals))
        if self.readiness.part_ok("envoy"):
            self._announce()

    # -- sources ----------------------------------------------------------------------------------------------------

    async def _follow_services(self) -> None:
        async for services in self.files.services.follow():
            changed = self.hub.offer(services)
            await asyncio.sleep(0)  # the other clusters are told first: the way to them is the longest
            self.hub.serve(changed)

    async def _follow_problems(self) -> None:
        async for state in self.files.state.follow():
            self.readiness.warn("files", state.sentence)
            if self.hub.known:
                self._snapshots.changed()

    async def _follow_identity(self) -> None:
        expiry = ExpiryWatch(self.readiness, self.registry, f"the CA of cluster {self.member.id}", JOIN_AGAIN)
        async for identity in self._identity.latest.follow():
            self.hub.take_identity(identity)
            expiry.look(identity)

    async def _measure_distances(self) -> None:
        while True:
            await asyncio.sleep(TICK_S * SLOW_TICKS)
            if doubtful := self.hub.remotes.doubtful():
                self.hub.be_patient(await distances(doubtful))

    async def _tick(self) -> None:
        """Everything that happens because time goes by."""
        ticks = 0
        membership = MembershipWatch(self.settings.data_dir, self.member)
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            if self.hub.offers.waiting:
                self.hub.offers.look()
            self.hub.release_names()
            self.hub.lose_hope()
            if ticks % SLOW_TICKS == 0:
                self.hub.confirm(self.controllers.age(time.monotonic()), self.settings.stale_after_s)
                self.readiness.warn("identity", self._identity.trouble)
                self.readiness.warn("membership", membership.look())
                self._health.look()
                self.hub.compare(self.controllers.refused, current=self.controllers.heard)
            if ticks % RETRY_TICKS == 0:
                self.hub.feed.retry_refused()
            if ticks % SNAPSHOT_TICKS == 0 and self.hub.known:
                self._snapshots.changed()  # the age of what is known has changed


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
