"""Where the parts of a gateway meet: what one of them learns, the others are told. No input or output happens here."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from isthmus_core.model import Here, LocalService, LocalServices
from isthmus_core.names import ClusterId, ServiceName
from isthmus_gateway.envoy import Verdict
from isthmus_gateway.envoy_feed import EnvoyFeed, Refusal
from isthmus_gateway.fleet import FleetTable, Touched
from isthmus_gateway.membership import Membership
from isthmus_gateway.offers import Offers
from isthmus_gateway.remotes import Remotes
from isthmus_gateway.resources import (
    Resources,
    Side,
    build_export,
    build_export_assignments,
    build_identity,
    build_ingress,
    build_remote,
    build_trust,
    parse_cluster_name,
)
from isthmus_gateway.resources.names import LISTENER
from isthmus_gateway.routes import Routes
from isthmus_gateway.settings import GatewaySettings
from isthmus_gateway.siblings import Siblings
from isthmus_gateway.snapshot import Snapshot
from isthmus_gateway.vips import parse_range
from isthmus_gateway.zone_feed import ZoneFeed
from isthmus_kit.pki import Identity
from isthmus_kit.readiness import Readiness
from isthmus_sync import EXPORT, EXPORT_STATUS, Acked, Nacked

log = logging.getLogger(__name__)

_NAMED = 5  # so many of a long list stand in a sentence
STUTTER_S = 5.0
"""A cluster that does not answer for so long does not only stutter."""


class Hub:
    """Belongs to one event loop; every method is short and returns at once.

    `clock` gives seconds that only grow, `wall_ms` milliseconds of Unix time. `on_change` is called when something
    changed that a snapshot keeps, `on_refusals` when Envoy refused something or took it after all.
    """

    def __init__(
        self,
        member: Membership,
        settings: GatewaySettings,
        health_log: str,
        readiness: Readiness,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        on_change: Callable[[], None],
        on_refusals: Callable[[tuple[Refusal, ...]], None],
    ) -> None:
        self.fleet: Final = FleetTable(member.id)
        self.feed: Final = EnvoyFeed(on_refusals)
        self.zone: Final = ZoneFeed(member.id, 0, clock)
        self.offers: Final = Offers(member.id, clock, wall_ms, member.network)
        self.remotes: Final = Remotes()
        self.siblings: Final = Siblings(str(settings.services_dir), readiness, clock)
        here = Here(member.id, member.locality, member.network)
        pool = parse_range(settings.vip_range)
        self.routes: Final = Routes(here, self.fleet, self.offers.capacities, self.feed, self.zone, pool)
        self.known = False
        """Whether the fleet is known: from a snapshot, or told by a controller."""
        self._me: Final = member.id
        self._vip_range: Final = settings.vip_range
        self._reserved: Final = frozenset({settings.listen_address, settings.advertise_address})
        self._health_log: Final = health_log
        self._readiness: Final = readiness
        self._clock: Final = clock
        self._wall_ms: Final = wall_ms
        self._on_change: Final = on_change
        self._roots = b""
        self._exported: dict[ServiceName, tuple[object, ...]] = {}
        self._lost_at: dict[ClusterId, float] = {}
        self._listen: Final = (settings.listen_address, settings.listen_port)
        self._callers: frozenset[ClusterId] = frozenset()
        self._open_doors()

    # -- the federation -------------------------------------------------------------------------------------------

    def restore(self, snapshot: Snapshot) -> Mapping[str, str]:
        """Begin with what an earlier life knew; what cannot be used of it (name -> reason) leaves the fleet unknown."""
        self.routes.restore_vips(snapshot.vips)
        self.zone.serial = snapshot.zone_serial
        touched = self.fleet.restore(snapshot.resources)
        self.take_fleet(touched)
        if not touched.rejected:
            self.become_known()
        return touched.rejected

    def become_known(self) -> None:
        """What is known of the federation is complete: from now on Envoy and DNS are told."""
        if self.known:
            return
        self.known = True
        self.routes.compute()
        self.feed.mark_synced()
        self.zone.mark_synced(self._wall_ms() // 1000)
        self._readiness.set("federation", ok=True)
        self._on_change()

    def take_fleet(self, touched: Touched) -> None:
        """The fleet has changed like this."""
        for name, reason in touched.rejected.items():
            log.warning("resource of the controller refused", extra={"resource": name, "reason": reason})
        if touched.imports:
            self.routes.allocate_vips(self._reserved, complete=self.known)
            self._warn_about_vips()
        for cluster in touched.clusters:
            self.remotes.retain(cluster, self.fleet.clusters.get(cluster))
            self._tell_cluster(cluster)
        if touched.clusters:
            self._tell_trust()
        self.routes.touch(touched.services)
        if self.routes.hurry():
            self.computed()
        self._on_change()

    def computed(self) -> None:
        """Routes were computed: the zone gets a new serial if it changed."""
        if self.known and self.zone.commit(self._wall_ms() // 1000):
            self._on_change()

    def confirm(self, age: float | None, stale_after_s: float) -> None:
        """What is known is `age` seconds old (None: nobody ever confirmed it)."""
        stale = age is None or age > stale_after_s
        self.zone.confirm(stale, self._wall_ms() - int(1000 * (age or 0.0)), confirmed=age == 0.0)
        self.computed()

    def be_patient(self, round_trips_ms: Mapping[ClusterId, float]) -> None:
        """Give clusters that do not answer probes the time for the next one that their distance asks for."""
        for cluster in self.remotes.patience(round_trips_ms):
            self._tell_cluster(cluster)

    def snapshot(self, age: float | None, files: Mapping[str, bytes]) -> Snapshot:
        """What the next life must know. `files` are those that cannot be used now, as they were when they could."""
        return Snapshot(
            cluster=self._me,
            resources={
                kind: {name: (held.version, held.body) for name, held in names.items()}
                for kind, names in self.fleet.resources.items()
            },
            vips={str(name): address for name, address in self.routes.vips.items()},
            files=files,
            zone_serial=self.zone.serial,
            saved_at_ms=self._wall_ms() - int(1000 * (age or 0.0)),
        )

    def _tell_cluster(self, cluster: ClusterId) -> None:
        """Tell Envoy the way to a cluster; whether it can be gone is found out by Envoy's own probes."""
        known = self.fleet.clusters.get(cluster)
        self._note_reach(cluster)
        if known is None or cluster == self._me:
            self.feed.remove(f"cluster/{cluster}")
            return
        resources = build_remote(known, self._me, self._health_log, probe_timeout_ms=self.remotes.probe_ms(cluster))
        self.feed.put(f"cluster/{cluster}", resources)

    def _note_reach(self, cluster: ClusterId) -> None:
        lost = self.remotes.unreachable(cluster)
        if lost == (cluster in self.routes.unreachable):
            return
        (self.routes.unreachable.add if lost else self.routes.unreachable.discard)(cluster)
        (self.routes.lately.add if lost else self.routes.lately.discard)(cluster)
        self._lost_at[cluster] = self._clock()
        log.warning("cluster unreachable" if lost else "cluster reachable again", extra={"cluster": cluster})
        self.routes.touch(self.fleet.services_of(cluster))

    def lose_hope(self) -> None:
        """Time goes by: who has not answered for a while is not expected back in a moment."""
        for cluster in [c for c in self.routes.lately if self._clock() - self._lost_at[c] >= STUTTER_S]:
            self.routes.lately.remove(cluster)
            self.routes.touch(self.fleet.services_of(cluster))

    def _tell_trust(self) -> None:
        secrets = build_trust(self._roots, self._me, self.fleet.clusters.values())
        callers = frozenset(self.fleet.clusters) - {self._me}
        with self.feed.publication.change():
            self.feed.put("trust", Resources(secrets=secrets))
            if callers != self._callers:
                self._callers = callers
                self._open_doors()

    def _open_doors(self) -> None:
        self.feed.put("ingress", Resources(listeners=build_ingress(*self._listen, self._callers)))

    def _warn_about_vips(self) -> None:
        left_out = self.routes.exhausted
        names = ", ".join(str(name) for name in left_out[:_NAMED])
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        sentence = f"no address is left in {self._vip_range} for {names}{more}. Give a larger --vip-range."
        self._readiness.warn("vips", sentence if left_out else "")

    # -- Envoy ----------------------------------------------------------------------------------------------------

    def envoy_took(self, acked: Acked) -> None:
        """Envoy took these resources."""
        self.feed.on_acked(acked)
        self._note_listeners(acked)

    def envoy_refused(self, nacked: Nacked) -> None:
        """Envoy refused some of these resources."""
        self.feed.on_nacked(nacked)
        self._note_listeners(nacked)

    def envoy_went(self) -> None:
        """Envoy does not follow any more."""
        self.feed.forget_listeners()
        self.zone.envoy_went()
        self.computed()

    def release_names(self) -> None:
        """Time goes by: names that wait for Envoy do not wait for ever."""
        if self.zone.holding:
            self.zone.release_overdue()
            self.computed()

    def _note_listeners(self, outcome: Acked | Nacked) -> None:
        if outcome.type_url == LISTENER and self.zone.holding:
            self.zone.envoy_took(outcome.accepted)
            self.computed()

    # -- this cluster ---------------------------------------------------------------------------------------------

    def take_identity(self, identity: Identity) -> None:
        """Show this leaf from now on, and believe these roots."""
        self._roots = identity.roots
        self.feed.put("identity", Resources(secrets=build_identity(identity.chain, identity.key)))
        self._tell_trust()

    def take_services(self, services: LocalServices) -> None:
        """The source describes these services now."""
        self.serve(self.offer(services))

    def offer(self, services: LocalServices) -> frozenset[ServiceName]:
        """Tell the other clusters; gives the services that changed, which this cluster must `serve`."""
        changed = self.routes.set_local(services)
        if self._readiness.stopping:
            return changed  # files that go now go with this gateway: that is no withdrawal
        with self.offers.publication.change():
            for name in changed:
                self.offers.describe(name, services.get(name))
        return changed

    def compare(self, refused: Mapping[tuple[str, str], str], *, current: bool) -> None:
        """Time goes by: see whether the cluster exports what is here, but for what a controller `refused`."""
        offered = self.offers.publication[EXPORT].names() - {name for kind, name in refused if kind == EXPORT}
        self.siblings.look(self.fleet.resources[EXPORT_STATUS].keys(), offered, current=current)

    def serve(self, changed: frozenset[ServiceName]) -> None:
        """Tell our own Envoy and DNS of services that changed here."""
        with self.feed.publication.change():
            for name in changed:
                self._tell_export(name, self.routes.local.get(name))
            self.routes.touch(changed)
            if self.routes.hurry():
                self.computed()

    def _tell_export(self, name: ServiceName, local: LocalService | None) -> None:
        if local is None or local.export is None:
            self._exported.pop(name, None)
            self.feed.remove(f"export/{name}")
            return
        # Endpoints change often and the cluster around them seldom.
        shape = (local.type, local.ports, local.health_check)
        if self._exported.get(name) == shape:
            self.feed.put_endpoints(build_export_assignments(local))
        else:
            self._exported[name] = shape
            self.feed.put(f"export/{name}", build_export(local, self._health_log))

    def take_verdicts(self, verdicts: tuple[Verdict, ...]) -> None:
        """Envoy found endpoints of ours, or gateways of others, alive or dead."""
        services: dict[ServiceName, None] = {}
        clusters: dict[ClusterId, None] = {}
        for verdict in verdicts:
            about = parse_cluster_name(verdict.cluster)
            if about is None:
                continue
            if about.side is Side.LOCAL and about.service is not None:
                if self.offers.note(about.service, verdict.address, verdict.port, verdict.healthy):
                    services[about.service] = None
            elif about.side is Side.GATEWAY and about.cluster in self.fleet.clusters:
                self.remotes.note(about.cluster, verdict.address, verdict.port, verdict.healthy)
                clusters[about.cluster] = None
        for cluster in clusters:
            # Envoy has moved all services already; assignments without the dead cluster save their retries.
            self._note_reach(cluster)
        with self.offers.publication.change():
            for service in services:
                self.offers.judge(service)
        self.routes.touch(services)


def sentence_of(refusals: tuple[Refusal, ...]) -> str:
    """What Envoy refuses, for people; empty when it took everything."""
    listed = "; ".join(f"{refusal.name}: {_reason(refusal)}" for refusal in refusals[:_NAMED])
    more = f"; and {len(refusals) - _NAMED} more" if len(refusals) > _NAMED else ""
    mends = dict.fromkeys(mend for refusal in refusals for words, mend in _MENDS if words in refusal.reason)
    return ". ".join([f"Envoy refuses {listed}{more}", *mends]) if refusals else ""


def _reason(refusal: Refusal) -> str:
    """Envoy's reason without the words that only say again which listener is meant."""
    return refusal.reason.strip().removeprefix(f"Error adding/updating listener(s) {refusal.name}: ")


_MENDS = (
    ("Address already in use", "End what listens there; it is tried again every few seconds."),
    ("Cannot assign requested address", "Give this machine the addresses of --vip-range, or choose another range."),
    ("Permission denied", "Allow Envoy to listen on ports below 1024, or choose a higher port for the service."),
)
"""What a person can do about a port that Envoy cannot have."""
