"""Response-rate limiting: nobody can have us flood a network whose address they forged."""

import ipaddress
import math
from collections.abc import Callable, Sequence

from isthmus_dns.clients.subnet import IpNetwork, is_named, parse_networks

PRIVATE = parse_networks(
    (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Networks that forged packets from outside do not come from; resolvers of the cluster live there."""

_MOST_CLIENTS = 65536

Bucket = list[float]
"""One number: how many answers the prefix may still have in this second."""


class RateLimiter:
    """Counts answers per second and prefix (/24 and /56); the shell calls `tick` once a second.

    Above `rate`, answers are withheld, but every `slip`-th is sent cut down to a header with TC set: a real client then
    comes back over TCP, where addresses cannot be forged. `proven` tells whether a packet's cookie proves its address.
    """

    def __init__(
        self,
        rate: int,
        slip: int = 2,
        exempt: Sequence[IpNetwork] = PRIVATE,
        proven: Callable[[bytes, str], bool] | None = None,
    ) -> None:
        self._proven = proven
        self.buckets: dict[str, Bucket] = {}
        self.withheld = 0
        self.slipped = 0
        self._rate = rate
        self._slip = slip
        self._exempt = exempt
        self.unlimited: Bucket = [math.inf]
        """The bucket of all clients that have no limit."""
        self._prefixes: dict[str, Bucket] = {}

    def tick(self) -> None:
        """A second has passed: everybody may have answers again."""
        self.buckets.clear()
        self._prefixes.clear()

    def bucket(self, client: str) -> Bucket:
        """The bucket of a client that is not in `buckets`; clients of one prefix share theirs."""
        if is_named(client, self._exempt):
            bucket = self.unlimited
        else:
            bucket = self._prefixes.setdefault(_prefix(client), [self._rate])
        if len(self.buckets) < _MOST_CLIENTS:
            self.buckets[client] = bucket
        return bucket

    def over(self, bucket: Bucket, client: str, packet: bytes, response: bytes) -> bytes | None:
        """What to send instead of `response` when the bucket is empty; None for nothing."""
        if self._proven is not None and self._proven(packet, client):
            return response
        if self._slip and -bucket[0] % self._slip == 0:
            self.slipped += 1
            return _cut(response)
        self.withheld += 1
        return None


def _prefix(client: str) -> str:
    address = ipaddress.ip_address(client.partition("%")[0])
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 56), strict=False))


def _cut(response: bytes) -> bytes:
    """The header and the question alone, TC set: shorter than any query that it answers."""
    end = 12
    if response[5]:
        while response[end]:
            end += 1 + response[end]
        end += 5
    flags = bytes((response[2] | 0x02, response[3]))
    return response[:2] + flags + response[4:6] + b"\0\0\0\0\0\0" + response[12:end]
