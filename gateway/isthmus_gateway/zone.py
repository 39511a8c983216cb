"""What the DNS servers of this cluster must know of each imported service."""

from collections.abc import Iterable, Mapping

from isthmus_core.dns_mode import DnsMode, dns_mode
from isthmus_core.model import (
    Capacity,
    Cluster,
    ClusterState,
    Endpoint,
    Exporter,
    Here,
    Import,
    Protocol,
    ServicePort,
    ServiceType,
)
from isthmus_core.names import ClusterId
from isthmus_core.route import Candidate, ServiceRoute, rank
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb

HEADER = "zone"
NOBODY = "no cluster can serve it now"


def build_zone_service(
    service: Import,
    route: ServiceRoute,
    capacities: Mapping[ClusterId, Capacity],
    clusters: Mapping[ClusterId, Cluster],
    here: Here,
    vip: str | None,
) -> pb.ZoneService:
    """One service of the zone: its VIP, and the healthy endpoints where they are, or may be, the answer."""
    headless = service.type is ServiceType.HEADLESS
    endpoints = not headless and dns_mode(service.annotations) is DnsMode.ENDPOINTS
    message = pb.ZoneService(
        schema=codec.SCHEMA,
        namespace=service.service.namespace,
        name=service.service.name,
        type=pb.HEADLESS if headless else pb.CLUSTER_SET_IP,
        ports=[codec.port_message(port) for port in service.ports],
        ips=[vip] if vip and not headless else [],
        dns_mode=pb.DNS_ENDPOINTS if endpoints else pb.DNS_GATEWAY,
    )
    if headless:
        message.hosts.extend(_hosts(service, capacities, clusters, here.cluster))
        message.provenance.extend(_sources_of(message.hosts, service, capacities, clusters, here))
        return message
    if endpoints:
        message.hosts.extend(_near_hosts(service, route, capacities, clusters, here))
    message.provenance.extend(_provenance(c, capacities, clusters, here) for c in _behind(route.candidates))
    if not message.provenance:
        message.provenance.add(rule=NOBODY)
    return message


def build_header(
    cluster: ClusterId, serial: int, stale: bool, synced_at_ms: int, confirmed: bool = False
) -> pb.ZoneHeader:
    """The zone as a whole; `confirmed` while a controller stands behind it all the time."""
    return pb.ZoneHeader(
        schema=codec.SCHEMA,
        cluster=cluster,
        serial=serial,
        stale=stale,
        synced_at_ms=max(0, synced_at_ms),
        confirmed=confirmed,
    )


def next_serial(last: int, now_s: int) -> int:
    """A serial that grows with every change and never goes back, even when the last ones were not kept."""
    # RFC 1982: 32 bits that wrap; beginning at the time leaves room for a change a second until 2106.
    return max(last + 1, now_s) % 2**32


def _behind(candidates: Iterable[Candidate]) -> Iterable[Candidate]:
    """The clusters that traffic may go to, each once: our own has a candidate for each of its localities."""
    first: dict[ClusterId, Candidate] = {}
    for candidate in candidates:
        if candidate.chosen:
            first.setdefault(candidate.cluster, candidate)
    return first.values()


def _provenance(
    candidate: Candidate, capacities: Mapping[ClusterId, Capacity], clusters: Mapping[ClusterId, Cluster], here: Here
) -> pb.Provenance:
    found = _source(candidate.cluster, candidate.rank.words, capacities, clusters, here)
    found.tier = candidate.tier or 0
    return found


def _source(
    cluster: ClusterId,
    rule: str,
    capacities: Mapping[ClusterId, Capacity],
    clusters: Mapping[ClusterId, Cluster],
    here: Here,
) -> pb.Provenance:
    capacity, known = capacities.get(cluster), clusters.get(cluster)
    lost = cluster != here.cluster and not (known is not None and known.session_held)
    return pb.Provenance(
        cluster=cluster,
        rule=rule,
        observed_at_ms=_coarse(capacity.observed_at_ms) if capacity else 0,
        stale=lost,
        # Since its session ended nobody confirms what it said last.
        confirmed_at_ms=max(1, known.session_since_ms) if lost and known is not None else 0,
    )


def _sources_of(
    hosts: Iterable[pb.ZoneHost],
    service: Import,
    capacities: Mapping[ClusterId, Capacity],
    clusters: Mapping[ClusterId, Cluster],
    here: Here,
) -> list[pb.Provenance]:
    """Of a headless service: every cluster with an endpoint in the answer; nobody chooses between them."""
    there = {host.cluster for host in hosts}
    return [
        _source(exporter.cluster, "all ready endpoints", capacities, clusters, here)
        for exporter in service.exporters
        if exporter.cluster in there
    ]


def _near_hosts(
    service: Import,
    route: ServiceRoute,
    capacities: Mapping[ClusterId, Capacity],
    clusters: Mapping[ClusterId, Cluster],
    here: Here,
) -> list[pb.ZoneHost]:
    """The healthy endpoints that clients here can connect to, in the order of failover.

    Those are our own, and those of clusters in our network; the same candidates count as in the data path.
    """
    exporters = {exporter.cluster: exporter for exporter in service.exporters}
    tiers = {(c.cluster, c.locality if c.local else None): c.tier for c in route.candidates if c.tier is not None}
    found = []
    for cluster, capacity in capacities.items():
        exporter, known = exporters.get(cluster), clusters.get(cluster)
        own = cluster == here.cluster
        if exporter is None or not (own or (known is not None and here.network and known.network == here.network)):
            continue
        served = _served(service, exporter)
        for endpoint in capacity.endpoints:
            tier = tiers.get((cluster, endpoint.locality if own else None))
            if tier is None or not endpoint.ready:
                continue
            host = _host(cluster, endpoint, served)
            host.tier = tier
            found.append(((tier, rank(here.locality, endpoint.locality), cluster, endpoint.address), host))
    return [host for _, host in sorted(found, key=lambda pair: pair[0])]


def _served(service: Import, exporter: Exporter) -> list[ServicePort]:
    return [port for port in service.ports if port.name in exporter.port_names]


def _hosts(
    service: Import, capacities: Mapping[ClusterId, Capacity], clusters: Mapping[ClusterId, Cluster], here: ClusterId
) -> list[pb.ZoneHost]:
    hosts: list[pb.ZoneHost] = []
    for exporter in service.exporters:
        cluster, capacity = clusters.get(exporter.cluster), capacities.get(exporter.cluster)
        drained = cluster is not None and cluster.state is ClusterState.DRAINING and exporter.cluster != here
        if capacity is None or drained or (cluster is None and exporter.cluster != here):
            continue
        served = _served(service, exporter)
        hosts.extend(_host(exporter.cluster, endpoint, served) for endpoint in capacity.endpoints if endpoint.ready)
    return hosts


def _host(cluster: ClusterId, endpoint: Endpoint, served: list[ServicePort]) -> pb.ZoneHost:
    """SRV records give the port that the endpoint itself listens on."""
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
