"""What the DNS servers of this cluster must know of each imported service."""

from collections.abc import Mapping

from isthmus_core.model import Capacity, Cluster, ClusterState, Endpoint, Import, Protocol, ServicePort, ServiceType
from isthmus_core.names import ClusterId
from isthmus_core.route import Candidate, ServiceRoute
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb

HEADER = "zone"


def build_zone_service(
    service: Import,
    route: ServiceRoute,
    capacities: Mapping[ClusterId, Capacity],
    clusters: Mapping[ClusterId, Cluster],
    here: ClusterId,
    vip: str | None,
) -> pb.ZoneService:
    """One service of the zone: its VIP, or for a headless service the ready endpoints of all its clusters."""
    headless = service.type is ServiceType.HEADLESS
    message = pb.ZoneService(
        schema=codec.SCHEMA,
        namespace=service.service.namespace,
        name=service.service.name,
        type=pb.HEADLESS if headless else pb.CLUSTER_SET_IP,
        ports=[codec.port_message(port) for port in service.ports],
        ips=[vip] if vip and not headless else [],
        provenance=[_provenance(c, capacities, clusters, here) for c in route.candidates if c.chosen],
    )
    if headless:
        message.hosts.extend(_hosts(service, capacities, clusters, here))
    return message


def build_header(cluster: ClusterId, serial: int, stale: bool, synced_at_ms: int) -> pb.ZoneHeader:
    """The zone as a whole."""
    return pb.ZoneHeader(
        schema=codec.SCHEMA, cluster=cluster, serial=serial, stale=stale, synced_at_ms=max(0, synced_at_ms)
    )


def next_serial(last: int, now_s: int) -> int:
    """A serial that grows with every change and never goes back, even when the last ones were not kept."""
    # RFC 1982: 32 bits that wrap; beginning at the time leaves room for a change a second until 2106.
    return max(last + 1, now_s) % 2**32


def _provenance(
    candidate: Candidate,
    capacities: Mapping[ClusterId, Capacity],
    clusters: Mapping[ClusterId, Cluster],
    here: ClusterId,
) -> pb.Provenance:
    capacity, cluster = capacities.get(candidate.cluster), clusters.get(candidate.cluster)
    return pb.Provenance(
        cluster=candidate.cluster,
        rule=candidate.rank.words,
        observed_at_ms=_coarse(capacity.observed_at_ms) if capacity else 0,
        stale=candidate.cluster != here and not (cluster is not None and cluster.session_held),
    )


def _hosts(
    service: Import, capacities: Mapping[ClusterId, Capacity], clusters: Mapping[ClusterId, Cluster], here: ClusterId
) -> list[pb.ZoneHost]:
    hosts = []
    for exporter in service.exporters:
        cluster, capacity = clusters.get(exporter.cluster), capacities.get(exporter.cluster)
        drained = cluster is not None and cluster.state is ClusterState.DRAINING and exporter.cluster != here
        if capacity is None or drained or (cluster is None and exporter.cluster != here):
            continue
        served = [port for port in service.ports if port.name in exporter.port_names]
        for endpoint in capacity.endpoints:
            if endpoint.ready:
                hosts.append(_host(exporter.cluster, endpoint, served))  # noqa: PERF401
    return hosts


def _host(cluster: ClusterId, endpoint: Endpoint, served: list[ServicePort]) -> pb.ZoneHost:
    """SRV records of a headless service give the port that the endpoint itself listens on."""
    return pb.ZoneHost(
        cluster=cluster,
        hostname=endpoint.hostname,
        address=endpoint.address,
        ports=[
            codec.port_message(ServicePort(p.name, endpoint.ports[p.name], Protocol(p.protocol), p.app_protocol))
            for p in served
            if p.name in endpoint.ports
        ],
        locality=codec.locality_message(endpoint.locality),
    )


def _coarse(moment_ms: int) -> int:
    """To ten seconds: an answer need not be compiled anew because the same thing was seen once more."""
    return moment_ms - moment_ms % 10_000
