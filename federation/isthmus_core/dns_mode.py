"""What DNS answers for a service with a VIP, as its export says: the VIP, or addresses of endpoints."""

import enum
from collections.abc import Mapping
from typing import Final

ANNOTATION: Final = "isthmus.dev/dns"
"""The exported annotation (KEP-1645) that chooses; as with all of them, the oldest export's word counts."""


class DnsMode(enum.Enum):
    """What stands behind the name of a service."""

    GATEWAY = "gateway"
    """The VIP: the gateway of the client's cluster chooses, connection by connection."""
    ENDPOINTS = "endpoints"
    """The nearest healthy endpoints, for clients that do not pass through a gateway."""


def dns_mode(annotations: Mapping[str, str]) -> DnsMode:
    """The mode that exported annotations ask for. A word of a later release means the VIP, which always works."""
    return DnsMode.ENDPOINTS if annotations.get(ANNOTATION) == DnsMode.ENDPOINTS.value else DnsMode.GATEWAY
