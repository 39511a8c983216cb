"""The values that everything else is made of: clusters, exports, capacities, imports, local services."""

import enum
from collections.abc import Mapping

import msgspec

from isthmus_core.names import ClusterId, Locality, ServiceName


class Protocol(enum.Enum):
    """The transport of a port, in Kubernetes' words."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class AppProtocol(enum.Enum):
    """What is spoken inside a TCP port: it decides between an HTTP router and a plain TCP proxy."""

    TCP = "tcp"
    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"

    @property
    def is_http(self) -> bool:
        """Whether requests (not only bytes) can be seen and retried."""
        return self is not AppProtocol.TCP


class ServiceType(enum.Enum):
    """The two types of an import (KEP-1645); NodePort and LoadBalancer become ClusterSetIP."""

    CLUSTER_SET_IP = "ClusterSetIP"
    HEADLESS = "Headless"


class ClusterState(enum.Enum):
    """What a person decided about a cluster."""

    ACTIVE = "active"
    DRAINING = "draining"


class ServicePort(msgspec.Struct, frozen=True, order=True):
    """One port of a service; `name` may be empty only when it is the single one."""

    name: str
    port: int
    protocol: Protocol = Protocol.TCP
    app_protocol: AppProtocol = AppProtocol.TCP


class Endpoint(msgspec.Struct, frozen=True):
    """One place that serves a service; `ports` maps the service's port names to this endpoint's port numbers."""

    address: str
    locality: Locality
    ports: Mapping[str, int]
    weight: int = 1
    ready: bool = True
    hostname: str = ""


class CheckKind(enum.Enum):
    """How an endpoint is asked whether it is alive."""

    TCP = "tcp"
    HTTP = "http"
    GRPC = "grpc"
    NONE = "none"


class HealthCheck(msgspec.Struct, frozen=True):
    """An active health check as Envoy makes it; times in milliseconds."""

    kind: CheckKind = CheckKind.TCP
    path: str = "/"
    host: str = ""
    port_name: str = ""
    interval_ms: int = 100
    timeout_ms: int = 100
    unhealthy_threshold: int = 2
    healthy_threshold: int = 2


class ExportSpec(msgspec.Struct, frozen=True):
    """A cluster's wish to offer one of its services (ServiceExport, KEP-1645)."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    exported_at_ms: int = 0


class LocalService(msgspec.Struct, frozen=True):
    """A service of this cluster as its source (files or Kubernetes) describes it."""

    service: ServiceName
    type: ServiceType
    ports: tuple[ServicePort, ...]
    endpoints: tuple[Endpoint, ...] = ()
    health_check: HealthCheck = HealthCheck()
    session_affinity: str = "None"
    export: ExportSpec | None = None


LocalServices = Mapping[ServiceName, LocalService]


class Gateway(msgspec.Struct, frozen=True, order=True):
    """Where one gateway of a cluster takes tunnels from other clusters."""

    id: str
    cluster: ClusterId
    address: str
    port: int
    version: str = ""


class Cluster(msgspec.Struct, frozen=True):
    """A member of the federation, with what is known of its gateways and its session in the registry."""

    id: ClusterId
    locality: Locality
    network: str = ""
    trust_domain: str = ""
    state: ClusterState = ClusterState.ACTIVE
    registered_at_ms: int = 0
    gateways: tuple[Gateway, ...] = ()
    session_held: bool = False
    session_since_ms: int = 0
    certificate_fingerprint: str = ""


class Export(msgspec.Struct, frozen=True):
    """What one cluster offers under a service name. `first_revision` is the registry's: the tie-break of ages."""

    service: ServiceName
    cluster: ClusterId
    type: ServiceType
    ports: tuple[ServicePort, ...]
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    session_affinity: str = "None"
    exported_at_ms: int = 0
    first_revision: int = 0


class ZoneCapacity(msgspec.Struct, frozen=True):
    """Weights of the healthy and of all endpoints in one locality."""

    locality: Locality
    ready: int
    total: int


class Capacity(msgspec.Struct, frozen=True):
    """How much of a service is alive in one cluster. Endpoints travel only where DNS names them."""

    service: ServiceName
    cluster: ClusterId
    zones: tuple[ZoneCapacity, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    observed_at_ms: int = 0

    @property
    def ready(self) -> int:
        """Weight of all healthy endpoints."""
        return sum(zone.ready for zone in self.zones)

    @property
    def total(self) -> int:
        """Weight of all endpoints."""
        return sum(zone.total for zone in self.zones)


class Exporter(msgspec.Struct, frozen=True):
    """A cluster behind an import, with the names of those ports that it really serves."""

    cluster: ClusterId
    port_names: tuple[str, ...]


class Import(msgspec.Struct, frozen=True):
    """A service of the federation: all its exports merged, the oldest first."""

    service: ServiceName
    type: ServiceType
    ports: tuple[ServicePort, ...]
    exporters: tuple[Exporter, ...]
    session_affinity: str = "None"
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class Condition(msgspec.Struct, frozen=True):
    """One condition of a ServiceExport: Valid, Ready or Conflict (KEP-1645)."""

    type: str
    status: bool
    reason: str
    message: str = ""


class Here(msgspec.Struct, frozen=True):
    """The cluster that decides: its id, where it is and on which network."""

    cluster: ClusterId
    locality: Locality
    network: str = ""
