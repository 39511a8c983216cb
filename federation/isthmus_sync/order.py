"""Decide which types go first when several changed, and which removals wait for what.

xds_protocol, "Eventual consistency considerations": make before break.
"""

from collections.abc import Callable, Mapping

import msgspec
from envoy.config.cluster.v3 import cluster_pb2

from isthmus_sync import codec

ENVOY_PREFIX = "type.googleapis.com/envoy."
SECRETS = ENVOY_PREFIX + "extensions.transport_sockets.tls.v3.Secret"
CLUSTERS = ENVOY_PREFIX + "config.cluster.v3.Cluster"
ENDPOINTS = ENVOY_PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
LISTENERS = ENVOY_PREFIX + "config.listener.v3.Listener"
ROUTES = ENVOY_PREFIX + "config.route.v3.RouteConfiguration"


class Order(msgspec.Struct, frozen=True):
    """The order of one use of the protocol. A type that is not listed waits for nobody.

    `additions`: a type is sent after the unsent changes of all types before it: what is referred to comes first.
    `removals`: a removal waits until everything of the types before it is acknowledged: who refers goes first.
    `repeats`: names of another type that the peer must be sent again after it got this resource, even when unchanged.
    `expected`: types that every peer of this kind subscribes to; nothing is removed before it did, or a peer that comes
    back would lose what its referrers, whose subscription is still on its way, use.
    `isolate`: the peer cannot say which resources of a response it refused; find out by sending halves.
    """

    additions: tuple[str, ...]
    removals: tuple[str, ...]
    repeats: Mapping[str, tuple[str, Callable[[str, bytes], str]]] = {}
    expected: tuple[str, ...] = ()
    isolate: bool = False


def endpoints_of(name: str, body: bytes) -> str:
    """The name of the endpoint assignment that a changed Envoy cluster will wait for."""
    cluster = cluster_pb2.Cluster.FromString(body)
    return cluster.eds_cluster_config.service_name or name


# A changed cluster warms up until its endpoints are sent again, even when they are the same and Envoy subscribed to
# them long ago (xds_protocol, "Resource warming"). Envoy's NACK carries a message and no names.
ENVOY = Order(
    additions=(SECRETS, CLUSTERS, ENDPOINTS, LISTENERS, ROUTES),
    removals=(LISTENERS, ROUTES, CLUSTERS, ENDPOINTS, SECRETS),
    repeats={CLUSTERS: (ENDPOINTS, endpoints_of)},
    expected=(CLUSTERS, LISTENERS),
    isolate=True,
)
_FEDERATION = (
    codec.TRUST_BUNDLE,
    codec.CLUSTER,
    codec.GATEWAY,
    codec.EXPORT,
    codec.IMPORT,
    codec.CAPACITY,
    codec.EXPORT_STATUS,
)
FEDERATION = Order(
    additions=_FEDERATION,
    removals=_FEDERATION[::-1],
)
ZONE = Order(
    additions=(codec.ZONE_SERVICE, codec.ZONE_HEADER),
    removals=(codec.ZONE_HEADER, codec.ZONE_SERVICE),
)
