"""Decide which targets of an imported service stand in which tier, with which weight, and why.

The same pure function serves the gateway's routing table, `explain` and `simulate`.
"""

import enum
from collections.abc import Mapping, Set

import msgspec

from isthmus_core.model import Capacity, Cluster, ClusterState, Exporter, Here, Import, ServicePort
from isthmus_core.names import ClusterId, Locality, ServiceName


class Rank(enum.IntEnum):
    """How near a locality is. The order of failover when no policy says otherwise."""

    SAME_ZONE = 0
    SAME_REGION = 1
    SAME_PROVIDER = 2
    ANYWHERE = 3

    @property
    def words(self) -> str:
        """For people: `same zone`, `same region`, `same provider`, `anywhere`."""
        return self.name.lower().replace("_", " ")


class Candidate(msgspec.Struct, frozen=True):
    """One cluster's locality as a possible target, chosen or not, with the reason in words."""

    cluster: ClusterId
    locality: Locality
    rank: Rank
    local: bool
    ready: int
    total: int
    tier: int | None
    why: str
    last_resort: bool = False
    """Tried only when nobody in any tier is healthy: what looks dead from here may still answer."""

    @property
    def chosen(self) -> bool:
        """Whether traffic may go there (now, or when the tiers before it fail)."""
        return self.tier is not None


class Target(msgspec.Struct, frozen=True):
    """Where a tier sends traffic: this cluster's own endpoints of one locality, or a tunnel to another cluster."""

    cluster: ClusterId
    locality: Locality
    weight: int
    local: bool


class PortRoute(msgspec.Struct, frozen=True):
    """The tiers of one port, best first; every tier has at least one target.

    `last_resort` is tried when nobody in any tier answers; `ready`: a check says that somebody in the tiers is healthy.
    `lately`: those of it that answered a moment ago, named only beside the only tier of an HTTP port.
    Neither tiers nor a last resort: nobody can serve the port.
    """

    port: ServicePort
    tiers: tuple[tuple[Target, ...], ...]
    last_resort: tuple[Target, ...] = ()
    ready: bool = True
    lately: tuple[Target, ...] = ()


class ServiceRoute(msgspec.Struct, frozen=True):
    """What a cluster does with the traffic for one imported service."""

    service: ServiceName
    ports: tuple[PortRoute, ...]
    candidates: tuple[Candidate, ...]


def rank(here: Locality, there: Locality) -> Rank:
    """How near `there` is to `here`; people write `AWS` and `aws` and mean one place."""
    if here.provider.lower() != there.provider.lower():
        return Rank.ANYWHERE
    if here.region.lower() != there.region.lower():
        return Rank.SAME_PROVIDER
    return Rank.SAME_ZONE if here.zone.lower() == there.zone.lower() else Rank.SAME_REGION


def route(
    imported: Import,
    clusters: Mapping[ClusterId, Cluster],
    capacities: Mapping[ClusterId, Capacity],
    here: Here,
    unreachable: Set[ClusterId] = frozenset(),
    lately: Set[ClusterId] = frozenset(),
) -> ServiceRoute:
    """The tiers of `imported` as seen from `here`.

    `capacities` holds one entry a cluster, this one's own included; `unreachable` names the clusters whose gateways
    do not answer from here, `lately` those of them that did until a moment ago. Within the same rank this cluster's own
    endpoints come before a tunnel.
    """
    found: list[tuple[tuple[int, int] | None, Candidate]] = []
    for exporter in imported.exporters:
        places = _candidates(
            exporter.cluster, clusters.get(exporter.cluster), capacities.get(exporter.cluster), here, unreachable
        )
        if why := idle(imported, exporter):
            places = [(None, msgspec.structs.replace(c, why=why, last_resort=False)) for _, c in places]
        found.extend(places)
    order = sorted({key for key, _ in found if key is not None})
    candidates = [
        candidate if key is None else msgspec.structs.replace(candidate, tier=order.index(key))
        for key, candidate in found
    ]
    candidates.sort(key=lambda c: (c.tier is None, c.tier or 0, c.rank, c.cluster, c.locality))
    ports = tuple(_port(port, imported, candidates, lately) for port in imported.ports)
    return ServiceRoute(imported.service, ports, tuple(candidates))


def _candidates(
    cluster_id: ClusterId,
    cluster: Cluster | None,
    capacity: Capacity | None,
    here: Here,
    unreachable: Set[ClusterId],
) -> list[tuple[tuple[int, int] | None, Candidate]]:
    """Each with its order key, or None where no traffic may go."""
    local = cluster_id == here.cluster
    if local:
        zones = capacity.zones if capacity else ()
        return [_local(cluster_id, zone.locality, zone.ready, zone.total, here, cluster) for zone in zones]
    locality = cluster.locality if cluster else Locality("unknown", "unknown", "unknown")
    near = rank(here.locality, locality)
    ready, total = (capacity.ready, capacity.total) if capacity else (0, 0)
    ready = 0 if closed(cluster) else ready  # without a way to it, its last words about health are history
    refusal = _refusal(cluster, capacity)
    doubt = "" if refusal else _doubt(ready, total, cluster_id in unreachable)
    why = refusal or (f"{doubt}: last resort" if doubt else f"{near.words}, {ready} of {total} ready")
    if not refusal and not doubt and not (cluster and cluster.session_held):
        why += ", session lost: last known state"
    key = None if refusal or doubt else (int(near), 1)
    return [(key, Candidate(cluster_id, locality, near, False, ready, total, None, why, last_resort=bool(doubt)))]


def _local(
    cluster_id: ClusterId, locality: Locality, ready: int, total: int, here: Here, cluster: Cluster | None
) -> tuple[tuple[int, int] | None, Candidate]:
    """Own endpoints stay in their tier whatever their health: our own Envoy checks them and passes over the sick."""
    near = rank(here.locality, locality)
    draining = cluster is not None and cluster.state is ClusterState.DRAINING
    why = f"{near.words}, this cluster, {ready} of {total} ready"
    # A draining cluster still serves its own clients, as the last resort: taking the only copy away helps nobody.
    key = (int(Rank.ANYWHERE) + 1, 0) if draining else (int(near), 0)
    if total == 0:
        return None, Candidate(cluster_id, locality, near, True, ready, total, None, "no endpoints in this cluster")
    return key, Candidate(
        cluster_id, locality, near, True, ready, total, None, why + (", draining: last resort" if draining else "")
    )


def idle(imported: Import, exporter: Exporter) -> str:
    """Why nothing of what a cluster offers is used, wherever one is; empty when some of it is."""
    conflict = imported.ports and not exporter.port_names
    return "its ports conflict with those of an older export, which are used" if conflict else ""


def closed(cluster: Cluster | None) -> str:
    """Why nobody outside can use what a cluster offers, wherever he is; empty when there is a way to it."""
    if cluster is None:
        return "not a member of the federation any more"
    return "" if cluster.gateways else "none of its gateways runs: none was started yet, or the last was stopped"


def _refusal(cluster: Cluster | None, capacity: Capacity | None) -> str:
    """Why a remote cluster gets no traffic; empty when it may."""
    if cluster is not None and cluster.state is ClusterState.DRAINING:
        return "draining: a person took it out of traffic"
    if why := closed(cluster):
        return why
    if capacity is None:
        return "its capacity is not known yet"
    if capacity.total == 0:
        return "it has no endpoints"
    return ""


def _doubt(ready: int, total: int, unreachable: bool) -> str:
    """Why a remote cluster is tried only when everybody else has failed: checks say so, and checks can be wrong."""
    if ready == 0:
        return f"none of its {total} endpoints is healthy"
    return "its gateways do not answer from here" if unreachable else ""


def _port(port: ServicePort, imported: Import, candidates: list[Candidate], lately: Set[ClusterId]) -> PortRoute:
    """Tiers of one port without gaps: only exporters that really serve the port take part."""
    servers = {e.cluster for e in imported.exporters if port.name in e.port_names}
    tiers: dict[int, list[Target]] = {}
    for c in candidates:
        if c.tier is not None and c.cluster in servers:
            weight = c.total if c.local else c.ready
            tiers.setdefault(c.tier, []).append(Target(c.cluster, c.locality, weight, c.local))
    last = tuple(
        Target(c.cluster, c.locality, c.total, c.local) for c in candidates if c.last_resort and c.cluster in servers
    )
    ready = any(c.tier is not None and c.ready and c.cluster in servers for c in candidates)
    # Where nobody asks, nothing is said: a route that says the same as before need not be told.
    asked = ready and len(tiers) == 1 and port.app_protocol.is_http
    hopeful = tuple(target for target in last if target.cluster in lately) if asked else ()
    return PortRoute(port, tuple(tuple(tiers[number]) for number in sorted(tiers)), last, ready or not last, hopeful)
