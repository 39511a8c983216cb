"""Everything that a person may want to know about a running gateway, as one value."""

from collections.abc import Mapping

import msgspec

from isthmus_core.model import Cluster, Condition, LocalService
from isthmus_core.route import ServiceRoute


class FileProblem(msgspec.Struct, frozen=True):
    """A file, or a place in it, that a person should mend."""

    file: str
    line: int
    column: int
    reason: str
    mend: str


class FilesStatus(msgspec.Struct, frozen=True):
    """The folder of services."""

    folder: str
    trouble: str
    services: int
    problems: tuple[FileProblem, ...]


class StreamStatus(msgspec.Struct, frozen=True):
    """One stream to a controller."""

    connected: bool
    controller: str
    why: str


class ControllersStatus(msgspec.Struct, frozen=True):
    """What is known of the controllers; `age_s` is how old the knowledge is (null: from nobody yet)."""

    addresses: tuple[str, ...]
    imports: StreamStatus
    exports: StreamStatus
    age_s: float | None
    refused: Mapping[str, str]  # "<kind> <name>" -> reason


class ClusterStatus(msgspec.Struct, frozen=True):
    """A member of the federation as seen from here."""

    id: str
    locality: str
    state: str
    session_held: bool
    age_s: float | None
    unreachable: bool
    gateways: Mapping[str, bool | None]  # address:port -> healthy, null before the first look


class CandidateStatus(msgspec.Struct, frozen=True):
    """A place that could serve, chosen (it has a tier) or not, and why."""

    cluster: str
    locality: str
    rank: str
    local: bool
    ready: int
    total: int
    tier: int | None
    why: str


class PortStatus(msgspec.Struct, frozen=True):
    """A port of an imported service and how many tiers serve it."""

    name: str
    port: int
    protocol: str
    app_protocol: str
    tiers: int


class ServiceStatus(msgspec.Struct, frozen=True):
    """An imported service."""

    service: str
    type: str
    vip: str | None
    ports: tuple[PortStatus, ...]
    candidates: tuple[CandidateStatus, ...]


class EndpointStatus(msgspec.Struct, frozen=True):
    """An own endpoint and Envoy's verdict on it, port by port (null before the first check)."""

    address: str
    locality: str
    weight: int
    ready: bool
    healthy: Mapping[str, bool | None]


class ExportStatus(msgspec.Struct, frozen=True):
    """A service of this cluster, exported or not."""

    service: str
    exported: bool
    type: str
    ready: int
    total: int
    endpoints: tuple[EndpointStatus, ...]
    conditions: tuple[Condition, ...]


class RefusedResource(msgspec.Struct, frozen=True):
    """Something that Envoy did not take."""

    kind: str
    name: str
    reason: str


class EnvoyStatus(msgspec.Struct, frozen=True):
    """The Envoy of this gateway."""

    running: bool
    pid: int
    adopted: bool
    why: str
    refused: tuple[RefusedResource, ...]
    ingress_refused: int  # connections that were refused for what the certificate says


class GatewayStatus(msgspec.Struct, frozen=True):
    """GET /v1/state."""

    cluster: str
    gateway: str
    version: str
    locality: str
    address: str
    ready: bool
    missing: Mapping[str, str]
    warnings: Mapping[str, str]
    controllers: ControllersStatus
    files: FilesStatus
    envoy: EnvoyStatus
    zone_serial: int
    zone_stale: bool
    snapshot_age_s: float | None
    clusters: tuple[ClusterStatus, ...]
    services: tuple[ServiceStatus, ...]
    exports: tuple[ExportStatus, ...]


def candidates_of(route: ServiceRoute) -> tuple[CandidateStatus, ...]:
    """The candidates of a route, chosen ones first."""
    return tuple(
        CandidateStatus(c.cluster, str(c.locality), c.rank.words, c.local, c.ready, c.total, c.tier, c.why)
        for c in route.candidates
    )


def ports_of(route: ServiceRoute) -> tuple[PortStatus, ...]:
    """The ports of a route."""
    return tuple(
        PortStatus(p.port.name, p.port.port, p.port.protocol.value, p.port.app_protocol.value, len(p.tiers))
        for p in route.ports
    )


def gateways_of(cluster: Cluster, verdicts: Mapping[str, bool]) -> dict[str, bool | None]:
    """Every gateway of a cluster with the verdict on it."""
    addresses = [f"{gateway.address}:{gateway.port}" for gateway in sorted(cluster.gateways)]
    return {address: verdicts.get(address) for address in addresses}


def totals_of(local: LocalService) -> int:
    """The weight of all own endpoints of a service."""
    return sum(endpoint.weight for endpoint in local.endpoints)
