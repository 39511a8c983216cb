"""The sync protocol, delta xDS at every hop: pure machines and thin gRPC shells."""

# Before anything imports gRPC, which reads its cipher suites when it is imported.
import isthmus_kit.tls13  # noqa: F401  # isort: skip

from isthmus_sync.cache import Resource, ResourceCache
from isthmus_sync.channels import new_server, open_channel
from isthmus_sync.client import Dial, publish, subscribe
from isthmus_sync.codec import (
    CAPACITY,
    CLUSTER,
    EXPORT,
    EXPORT_STATUS,
    GATEWAY,
    IMPORT,
    TRUST_BUNDLE,
    ZONE_HEADER,
    ZONE_SERVICE,
)
from isthmus_sync.order import ENVOY, FEDERATION, ZONE, Order
from isthmus_sync.outcomes import Acked, Nacked, Rejection, Unserved
from isthmus_sync.publication import Publication
from isthmus_sync.publisher import PublisherStream
from isthmus_sync.server import (
    ADS_METHOD,
    EXPORTS_METHOD,
    IMPORTS_METHOD,
    ZONE_METHOD,
    Caller,
    publisher_handler,
    subscriber_handler,
)
from isthmus_sync.streams import Publishing, Subscribing
from isthmus_sync.subscriber import Changed, SubscriberStream, Update
from isthmus_sync.typestream import WILDCARD

__all__ = [
    "ADS_METHOD",
    "CAPACITY",
    "CLUSTER",
    "ENVOY",
    "EXPORT",
    "EXPORTS_METHOD",
    "EXPORT_STATUS",
    "FEDERATION",
    "GATEWAY",
    "IMPORT",
    "IMPORTS_METHOD",
    "TRUST_BUNDLE",
    "WILDCARD",
    "ZONE",
    "ZONE_HEADER",
    "ZONE_METHOD",
    "ZONE_SERVICE",
    "Acked",
    "Caller",
    "Changed",
    "Dial",
    "Nacked",
    "Order",
    "Publication",
    "PublisherStream",
    "Publishing",
    "Rejection",
    "Resource",
    "ResourceCache",
    "SubscriberStream",
    "Subscribing",
    "Unserved",
    "Update",
    "new_server",
    "open_channel",
    "publish",
    "publisher_handler",
    "subscribe",
    "subscriber_handler",
]
