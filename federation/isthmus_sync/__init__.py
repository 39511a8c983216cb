"""The sync protocol, delta xDS at every hop: pure machines and thin gRPC shells."""

# Before anything imports gRPC, which reads its cipher suites when it is imported.
import isthmus_kit.tls13  # noqa: F401  # isort: skip

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from isthmus_sync.streams import Publishing
    from isthmus_sync.subscriber import Changed, SubscriberStream, Update
    from isthmus_sync.subscribing import Subscribing
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

_HOMES = {
    "cache": ("Resource", "ResourceCache"),
    "channels": ("new_server", "open_channel"),
    "client": ("Dial", "publish", "subscribe"),
    "codec": (
        "CAPACITY",
        "CLUSTER",
        "EXPORT",
        "EXPORT_STATUS",
        "GATEWAY",
        "IMPORT",
        "TRUST_BUNDLE",
        "ZONE_HEADER",
        "ZONE_SERVICE",
    ),
    "order": ("ENVOY", "FEDERATION", "ZONE", "Order"),
    "outcomes": ("Acked", "Nacked", "Rejection", "Unserved"),
    "publication": ("Publication",),
    "publisher": ("PublisherStream",),
    "server": (
        "ADS_METHOD",
        "EXPORTS_METHOD",
        "IMPORTS_METHOD",
        "ZONE_METHOD",
        "Caller",
        "publisher_handler",
        "subscriber_handler",
    ),
    "streams": ("Publishing",),
    "subscriber": ("Changed", "SubscriberStream", "Update"),
    "subscribing": ("Subscribing",),
    "typestream": ("WILDCARD",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: gRPC and Envoy's messages cost 30 MB and 0.2 s (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found
