"""Builders of the values that the gateway's tests speak about."""

from isthmus_core.model import (
    Capacity,
    Cluster,
    ClusterState,
    Endpoint,
    Exporter,
    Gateway,
    HealthCheck,
    Import,
    LocalService,
    ServicePort,
    ServiceType,
    ZoneCapacity,
)
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_sync import CAPACITY, CLUSTER, IMPORT, Changed, Update, codec

BERLIN = Locality("onprem", "berlin", "rack-1")
ECHO = ServiceName("shop", "echo")
HTTP = ServicePort("http", 80)


def cluster(name: str, state: ClusterState = ClusterState.ACTIVE, held: bool = True, address: str = "") -> Cluster:
    gateway = Gateway(f"{name}-1", ClusterId(name), address or "127.51.9.9", 15443)
    return Cluster(
        ClusterId(name), BERLIN, trust_domain=f"{name}.fed.example", state=state, gateways=(gateway,), session_held=held
    )


def imported(
    *exporters: str,
    service: ServiceName = ECHO,
    kind: ServiceType = ServiceType.CLUSTER_SET_IP,
    port: ServicePort = HTTP,
) -> Import:
    return Import(service, kind, (port,), tuple(Exporter(ClusterId(e), (port.name,)) for e in exporters))


def capacity(name: str, ready: int = 1, total: int = 1, service: ServiceName = ECHO) -> Capacity:
    return Capacity(service, ClusterId(name), (ZoneCapacity(BERLIN, ready, total),))


def local(
    *addresses: str,
    service: ServiceName = ECHO,
    kind: ServiceType = ServiceType.CLUSTER_SET_IP,
    ports: tuple[ServicePort, ...] = (HTTP,),
    check: HealthCheck | None = None,
) -> LocalService:
    endpoints = tuple(Endpoint(a, BERLIN, {p.name: p.port for p in ports}) for a in addresses)
    return LocalService(service, kind, ports, endpoints, check or HealthCheck())


def resource(value: Cluster | Import | Capacity) -> tuple[str, str, bytes]:
    """A value as type, name and body."""
    if isinstance(value, Cluster):
        return CLUSTER, value.id, codec.cluster_message(value).SerializeToString(deterministic=True)
    if isinstance(value, Import):
        return IMPORT, str(value.service), codec.import_message(value).SerializeToString(deterministic=True)
    name = f"{value.service}/{value.cluster}"
    return CAPACITY, name, codec.capacity_message(value).SerializeToString(deterministic=True)


def told(*values: Cluster | Import | Capacity, version: str = "1") -> list[Update]:
    """An update for each value."""
    return [
        Update(kind, {name: Changed(version, body)}, frozenset(), {}, "n", True)
        for kind, name, body in (resource(value) for value in values)
    ]


def removed(type_url: str, *names: str) -> Update:
    """An update that takes resources away."""
    return Update(type_url, {}, frozenset(names), {}, "n", True)
