"""The JSON values of the admin API; the OpenAPI document is made from these types."""

import msgspec


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request body: unknown fields are refused, so that a typing mistake never does nothing."""


class Problem(msgspec.Struct, frozen=True):
    """Why a request was refused: one sentence, and how to mend it."""

    error: str
    mend: str = ""


class NewToken(_Asked, frozen=True):
    """Register a cluster: reserve its id and ask for a one-time join token."""

    cluster: str
    locality: str
    network: str = ""
    ttl_minutes: int = 60


class Token(msgspec.Struct, frozen=True):
    """A one-time join token; it is shown once and never stored."""

    token: str
    id: str
    cluster: str
    locality: str
    network: str
    expires_at_ms: int


class EnrolRequest(_Asked, frozen=True):
    """Join: the token and the signing request of the cluster's own CA key, as PEM."""

    token: str
    csr: str


class Enrolled(msgspec.Struct, frozen=True):
    """What a cluster needs to be a member: its CA certificate, the roots, and where the controllers are."""

    ca_certificate: str
    root_certificates: str
    federation: str
    cluster: str
    domain: str
    locality: str
    network: str
    controllers: list[str]


class Root(msgspec.Struct, frozen=True):
    """The federation's root certificates as PEM; a joiner checks them against the fingerprint in its token."""

    root_certificates: str
    fingerprints: list[str]
    federation: str
    domain: str


class GatewayView(msgspec.Struct, frozen=True):
    """One gateway, with its address for tunnels, and whether it is connected to a controller."""

    id: str
    address: str
    port: int
    version: str
    connected: bool


class ClusterView(msgspec.Struct, frozen=True):
    """One member. `state`: healthy, draining, control-lost (its last known state is kept), waiting (no gateway)."""

    id: str
    state: str
    locality: str
    network: str
    trust_domain: str
    registered_at_ms: int
    certificate_fingerprint: str
    session_held: bool
    session_since_ms: int
    fresh: bool
    observed_at_ms: int
    gateways: list[GatewayView]
    services: int
    exports: list[str] = []
    """Only when one cluster is asked for."""


class Drained(ClusterView, frozen=True):
    """A member that gets no new traffic, and which of its services no other cluster serves now."""

    unserved: list[str] = []


class Clusters(msgspec.Struct, frozen=True):
    """All members."""

    clusters: list[ClusterView]


class Removed(msgspec.Struct, frozen=True):
    """What the removal of a cluster took away."""

    cluster: str
    exports: int
    keys: int


class PortView(msgspec.Struct, frozen=True):
    """One port of a service."""

    name: str
    port: int
    protocol: str
    app_protocol: str


class ExporterView(msgspec.Struct, frozen=True):
    """One cluster behind a service: which ports it serves, and how much of it can be used now.

    `ready` is 0 while nobody can get there, whatever the cluster last said; then `why` says why, as `explain` does.
    """

    cluster: str
    state: str
    ports: list[str]
    ready: int
    total: int
    first_revision: int
    why: str = ""


class ConflictView(msgspec.Struct, frozen=True):
    """One property on which the exports of a service disagree."""

    service: str
    reason: str
    message: str


class ServiceView(msgspec.Struct, frozen=True):
    """One service of the federation: all its exports merged, the oldest first."""

    service: str
    namespace: str
    name: str
    host: str
    type: str
    ports: list[PortView]
    exporters: list[ExporterView]
    conflicts: list[ConflictView]
    ready: int
    total: int
    session_affinity: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Services(msgspec.Struct, frozen=True):
    """All services."""

    services: list[ServiceView]


class HostView(msgspec.Struct, frozen=True):
    """One address of a headless service."""

    address: str
    hostname: str
    locality: str
    weight: int
    ready: bool
    ports: dict[str, int]


class CapacityView(msgspec.Struct, frozen=True):
    """How much of a service can be used in one locality of one cluster; `endpoints` only where DNS names them.

    `ready` is 0 while nobody can get there, whatever the cluster last said; then `why` says why, as `explain` does.
    """

    service: str
    cluster: str
    state: str
    locality: str
    ready: int
    total: int
    observed_at_ms: int
    endpoints: list[HostView]
    why: str = ""


class Endpoints(msgspec.Struct, frozen=True):
    """The capacity of every service (or of one) in every cluster and locality."""

    endpoints: list[CapacityView]


class ConditionView(msgspec.Struct, frozen=True):
    """One condition of an export (KEP-1645)."""

    type: str
    status: bool
    reason: str
    message: str


class ExportView(msgspec.Struct, frozen=True):
    """One cluster's export of one service."""

    service: str
    cluster: str
    type: str
    ports: list[PortView]
    exported_at_ms: int
    first_revision: int
    conditions: list[ConditionView]


class Exports(msgspec.Struct, frozen=True):
    """All exports."""

    exports: list[ExportView]


class CandidateView(msgspec.Struct, frozen=True):
    """One cluster's locality as a possible target, chosen or not, with the reason in words."""

    cluster: str
    locality: str
    rank: str
    local: bool
    ready: int
    total: int
    tier: int | None
    chosen: bool
    why: str
    last_resort: bool = False


class TargetView(msgspec.Struct, frozen=True):
    """Where a tier sends traffic."""

    cluster: str
    locality: str
    weight: int
    local: bool


class PortRouteView(msgspec.Struct, frozen=True):
    """The tiers of one port, tried in order."""

    name: str
    port: int
    tiers: list[list[TargetView]]


class Explanation(msgspec.Struct, frozen=True):
    """Where traffic for a service goes as seen from one cluster, and why; `note` when nobody can ask there now."""

    service: str
    from_cluster: str
    candidates: list[CandidateView]
    ports: list[PortRouteView]
    note: str = ""


class QuarantinedView(msgspec.Struct, frozen=True):
    """A key of etcd that cannot be read; everything else goes on without it."""

    key: str
    reason: str


class EtcdView(msgspec.Struct, frozen=True):
    """One member of etcd."""

    address: str
    healthy: bool
    version: str
    leader: bool
    revision: int
    size_bytes: int
    problem: str


class ReplicaView(msgspec.Struct, frozen=True):
    """One controller replica."""

    id: str
    grpc: str
    admin: str
    version: str
    started_at_ms: int
    leader: bool
    self: bool
    place: str = ""
    """Its host and where it listens there, which only one process can; empty: not told."""


class Status(msgspec.Struct, frozen=True):
    """The federation at a glance; ask again with `?wait=<revision>` to be answered when something changed."""

    federation: str
    domain: str
    version: str
    revision: int
    time_ms: int
    ready: bool
    missing: dict[str, str]
    warnings: dict[str, str]
    clusters: list[ClusterView]
    services: int
    exports: int
    conflicts: list[ConflictView]
    quarantined: list[QuarantinedView]
    etcd: list[EtcdView]
    replicas: list[ReplicaView]
    unserved: list[str] = []
    """Services that nobody serves to other clusters, since every cluster in which somebody is ready is draining."""
