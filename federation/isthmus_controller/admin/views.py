"""Show the registry as the values of the admin API."""

from collections.abc import Iterable

from isthmus_controller.admin import values as v
from isthmus_controller.registry import Registry, resources
from isthmus_core.merge import Merged
from isthmus_core.model import (
    Capacity,
    Cluster,
    ClusterState,
    Export,
    Exporter,
    Here,
    Import,
    ServicePort,
    ZoneCapacity,
)
from isthmus_core.names import ClusterId, ServiceName
from isthmus_core.route import ServiceRoute, closed, idle, route


def state_word(cluster: Cluster | None) -> str:
    """The state of a cluster in DESIGN section 9's words; `waiting` before its first gateway and after its last."""
    if cluster is None:
        return "removed"
    if cluster.state is ClusterState.DRAINING:
        return "draining"
    if cluster.session_held:
        return "healthy"
    return "control-lost" if cluster.gateways else "waiting"


def cluster_view(registry: Registry, cluster: Cluster, with_exports: bool = False) -> v.ClusterView:
    """One member; its exports are named only where one cluster is asked for."""
    connected = registry.connected(cluster.id)
    return v.ClusterView(
        id=cluster.id,
        state=state_word(cluster),
        locality=str(cluster.locality),
        network=cluster.network,
        trust_domain=cluster.trust_domain,
        registered_at_ms=cluster.registered_at_ms,
        certificate_fingerprint=cluster.certificate_fingerprint,
        session_held=cluster.session_held,
        session_since_ms=cluster.session_since_ms,
        fresh=cluster.session_held,
        observed_at_ms=registry.observed_at_ms(cluster.id),
        gateways=[v.GatewayView(g.id, g.address, g.port, g.version, g.id in connected) for g in cluster.gateways],
        services=registry.exported(cluster.id),
        exports=_exported(registry, cluster.id) if with_exports else [],
    )


def _exported(registry: Registry, cluster: ClusterId) -> list[str]:
    return [str(service) for service in registry.offers(cluster) if registry.export(service, cluster)]


def port_views(ports: Iterable[ServicePort]) -> list[v.PortView]:
    """Ports in words."""
    return [v.PortView(p.name, p.port, p.protocol.value, p.app_protocol.value) for p in ports]


def service_view(registry: Registry, merged: Merged) -> v.ServiceView:
    """One service with its exporters."""
    service = merged.service.service
    capacities = registry.capacities(service)
    exporters = [_exporter(registry, merged.service, e, capacities.get(e.cluster)) for e in merged.service.exporters]
    return v.ServiceView(
        service=str(service),
        namespace=service.namespace,
        name=service.name,
        host=service.host(),
        type=merged.service.type.value,
        ports=port_views(merged.service.ports),
        exporters=exporters,
        conflicts=conflict_views(merged),
        ready=sum(e.ready for e in exporters),
        total=sum(e.total for e in exporters),
        session_affinity=merged.service.session_affinity,
        labels=dict(merged.service.labels),
        annotations=dict(merged.service.annotations),
    )


def _exporter(registry: Registry, imported: Import, exporter: Exporter, capacity: Capacity | None) -> v.ExporterView:
    cluster = exporter.cluster
    export = registry.export(imported.service, cluster)
    why = closed(registry.clusters.get(cluster)) or idle(imported, exporter)
    return v.ExporterView(
        cluster=cluster,
        state=state_word(registry.clusters.get(cluster)),
        ports=list(exporter.port_names),
        ready=capacity.ready if capacity and not why else 0,
        total=capacity.total if capacity else 0,
        first_revision=export.first_revision if export else 0,
        why=why,
    )


def unserved(registry: Registry) -> list[str]:
    """Services that other clusters get from nobody: every cluster in which somebody is ready is draining."""
    draining = {c.id for c in registry.clusters.values() if c.state is ClusterState.DRAINING}
    offered = {service for cluster in draining for service in registry.offers(cluster)}
    return [
        str(service)
        for service in sorted(offered)
        if (merged := registry.merged.get(service)) and (able := _able(registry, merged.service)) and able <= draining
    ]


def _able(registry: Registry, imported: Import) -> set[ClusterId]:
    """The clusters in which somebody is ready whom others can get to, unless a person took them out of traffic."""
    capacities = registry.capacities(imported.service)
    return {
        one.cluster
        for one in imported.exporters
        if (capacity := capacities.get(one.cluster)) is not None
        and capacity.ready
        and not (closed(registry.clusters.get(one.cluster)) or idle(imported, one))
    }


def conflict_views(merged: Merged) -> list[v.ConflictView]:
    """What the exporters of a service disagree about."""
    return [v.ConflictView(str(merged.service.service), c.reason, c.message) for c in merged.conflicts]


def capacity_views(registry: Registry, service: ServiceName) -> list[v.CapacityView]:
    """What can be used of a service, one entry for each cluster and locality."""
    return [
        _capacity(registry.clusters.get(cluster), capacity, zone)
        for cluster, capacity in sorted(registry.capacities(service).items())
        for zone in capacity.zones
    ]


def _capacity(cluster: Cluster | None, capacity: Capacity, zone: ZoneCapacity) -> v.CapacityView:
    why = closed(cluster)
    return v.CapacityView(
        service=str(capacity.service),
        cluster=capacity.cluster,
        state=state_word(cluster),
        locality=str(zone.locality),
        ready=0 if why else zone.ready,
        total=zone.total,
        observed_at_ms=capacity.observed_at_ms,
        endpoints=[
            v.HostView(e.address, e.hostname, str(e.locality), e.weight, e.ready and not why, dict(e.ports))
            for e in capacity.endpoints
            if e.locality == zone.locality
        ],
        why=why,
    )


def export_view(registry: Registry, export: Export) -> v.ExportView:
    """One export with its conditions."""
    merged = registry.merged[export.service]
    return v.ExportView(
        service=str(export.service),
        cluster=export.cluster,
        type=export.type.value,
        ports=port_views(export.ports),
        exported_at_ms=export.exported_at_ms,
        first_revision=export.first_revision,
        conditions=[v.ConditionView(c.type, c.status, c.reason, c.message) for c in resources.conditions(merged)],
    )


def explain(registry: Registry, merged: Merged, here: Cluster) -> v.Explanation:
    """Where traffic from a cluster goes: the same function decides it in that cluster's gateway."""
    place = Here(here.id, here.locality, here.network)
    decided = route(merged.service, registry.clusters, registry.capacities(merged.service.service), place)
    note = (
        ""
        if here.gateways
        else f"{here.id} runs no gateway now: nobody can ask from there, and this is what it would do"
    )
    return explanation(decided, here.id, note)


def explanation(decided: ServiceRoute, here: ClusterId, note: str = "") -> v.Explanation:
    """A decided route in words."""
    return v.Explanation(
        service=str(decided.service),
        from_cluster=here,
        candidates=[
            v.CandidateView(
                *(c.cluster, str(c.locality), c.rank.words, c.local, c.ready, c.total),
                *(c.tier, c.chosen, c.why, c.last_resort),
            )
            for c in decided.candidates
        ],
        ports=[
            v.PortRouteView(
                p.port.name,
                p.port.port,
                [[v.TargetView(t.cluster, str(t.locality), t.weight, t.local) for t in tier] for tier in p.tiers],
            )
            for p in decided.ports
        ],
        note=note,
    )
