"""Name every Envoy resource of a gateway, and read such a name back."""

import enum

import msgspec

from isthmus_core.names import CLUSTERSET_ZONE, ClusterId, ServiceName

_ENVOY = "type.googleapis.com/envoy."
CLUSTER = _ENVOY + "config.cluster.v3.Cluster"
ENDPOINT = _ENVOY + "config.endpoint.v3.ClusterLoadAssignment"
LISTENER = _ENVOY + "config.listener.v3.Listener"
SECRET = _ENVOY + "extensions.transport_sockets.tls.v3.Secret"

TYPES = (CLUSTER, ENDPOINT, SECRET, LISTENER)
"""All types a gateway's Envoy asks for, in the order in which additions are safe (xDS, "Eventual consistency")."""

INGRESS = "ingress"
IDENTITY = "identity"

TUNNEL_METADATA = "isthmus.tunnel"
"""Endpoint metadata that crosses an internal connection: which service a tunnel is for."""

HEALTH_PATH = "/.isthmus/health"
"""Answered with 200 by every ingress to a member of the federation; the probe of `gateway/<cluster>`."""

LOCAL_HEADER = "x-isthmus-local"
"""Set by the ingress itself (a caller's is overwritten): the Envoy cluster a CONNECT authority stands for."""


_HEDGE = "isthmus.hedge."

SAMPLE_KEY = "isthmus.sample"
"""Runtime key: of so many in ten thousand requests Envoy tells the agent how long the answer took."""

SAMPLED_AT_FIRST = 100
"""What counts before the agent has said anything."""


class Side(enum.Enum):
    """What an Envoy cluster stands for."""

    SERVICE = "service"
    LOCAL = "local"
    GATEWAY = "gateway"


class EnvoyCluster(msgspec.Struct, frozen=True):
    """An Envoy cluster's name read back: a service port (service, local) or a remote cluster (gateway)."""

    side: Side
    service: ServiceName | None = None
    port: int = 0
    cluster: ClusterId | None = None


def service_cluster(service: ServiceName, port: int) -> str:
    """The Envoy cluster (and its assignment) that clients of this cluster are sent to."""
    return f"service/{service}/{port}"


def local_cluster(service: ServiceName, port: int) -> str:
    """The Envoy cluster behind the ingress; named by its CONNECT authority, so that no service needs a route."""
    return f"local/{service.authority(port)}"


def gateway_cluster(cluster: ClusterId) -> str:
    """The Envoy cluster of a remote cluster's gateways."""
    return f"gateway/{cluster}"


def hedge_key(cluster: str, delay_ms: int) -> str:
    """The runtime key that, at 100, makes idempotent requests to an Envoy cluster go elsewhere too after so long."""
    return f"{_HEDGE}{delay_ms}.{cluster}"


def parse_hedge_key(key: str) -> tuple[int, str] | None:
    """Delay and Envoy cluster of such a key; None for other keys."""
    delay, dot, cluster = key.removeprefix(_HEDGE).partition(".")
    return (int(delay), cluster) if key.startswith(_HEDGE) and dot and delay.isdecimal() else None


def hedge_route(delay_ms: int) -> str:
    """The name of the route of requests that are hedged after so long; samples carry it."""
    return f"hedge/{delay_ms}"


def hedge_of(route: str) -> int:
    """The delay of such a route, 0 for others."""
    kind, _, delay = route.partition("/")
    return int(delay) if kind == "hedge" and delay.isdecimal() else 0


def egress_listener(service: ServiceName, port: int) -> str:
    """The listener on a service's VIP."""
    return f"egress/{service}/{port}"


def tunnel_listener(cluster: ClusterId) -> str:
    """The internal listener that turns a connection into a tunnel to a remote cluster."""
    return f"tunnel/{cluster}"


def last_resort_listener(cluster: ClusterId) -> str:
    """The internal listener of tunnels to a remote cluster that looks dead, and their Envoy cluster."""
    return f"last/{cluster}"


def peer_secret(cluster: ClusterId) -> str:
    """The validation context for one remote cluster's gateways."""
    return f"peer/{cluster}"


def caller_protocol(cluster: ClusterId) -> str:
    """The protocol (ALPN) that a cluster's gateway offers to say whose it is; nobody speaks it."""
    return f"isthmus/{cluster}"


def parse_cluster_name(name: str) -> EnvoyCluster | None:
    """What an Envoy cluster stands for; None for names that are not ours (`xds`)."""
    side, _, rest = name.partition("/")
    if side == "gateway" and rest:
        return EnvoyCluster(Side.GATEWAY, cluster=ClusterId(rest))
    if side == "service":
        parts = rest.split("/")
        if len(parts) == 3 and parts[2].isdigit():
            return EnvoyCluster(Side.SERVICE, ServiceName(parts[0], parts[1]), int(parts[2]))
    if side == "local":
        host, _, port = rest.rpartition(":")
        labels = host.removesuffix(f".svc.{CLUSTERSET_ZONE}").split(".")
        if len(labels) == 2 and port.isdigit():
            return EnvoyCluster(Side.LOCAL, ServiceName(labels[1], labels[0]), int(port))
    return None
