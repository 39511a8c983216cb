"""EDNS client subnet: honoured only from resolvers that were named, ignored from everybody else (RFC 7871)."""

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from isthmus_core.errors import InvalidInput
from isthmus_core.names import Locality

_RESOLVERS_KEPT = 1024
_OPTIONS_KEPT = 16384

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(texts: Sequence[str]) -> tuple[IpNetwork, ...]:
    """Addresses and networks in text; InvalidInput names the wrong one."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise InvalidInput(
                f"{text!r} is not the address of a resolver, or of a network of them",
                "Write 192.0.2.53 or 192.0.2.0/24.",
            ) from None
    return tuple(found)


def parse_place(text: str) -> tuple[IpNetwork, Locality]:
    """`NETWORK=provider/region/zone`: where the clients with these addresses are."""
    network, _, locality = text.partition("=")
    try:
        return ipaddress.ip_network(network.strip()), Locality.parse(locality.strip())
    except ValueError as wrong:
        raise InvalidInput(
            f"{text!r} does not say where a network is: {wrong}", "Write it like 10.1.0.0/16=aws/eu-west-1/a."
        ) from None


class _Node:
    """A prefix in the binary tree of all that was told; `place` is None where nothing was told of it alone."""

    __slots__ = ("below", "place")

    def __init__(self) -> None:
        self.below: list[_Node | None] = [None, None]
        self.place: int | None = None


class SubnetMap:
    """Where clients are, by the longest prefix that somebody told us."""

    def __init__(self, told: Iterable[tuple[IpNetwork, Locality]] = ()) -> None:
        self._roots = {4: _Node(), 6: _Node()}
        places: dict[Locality, int] = {}
        for network, locality in told:
            node = self._roots[network.version]
            for at in range(network.prefixlen):
                bit = _bit(network, at)
                node.below[bit] = node = node.below[bit] or _Node()
            number = places.setdefault(locality, len(places))
            if node.place is not None and node.place != number:
                raise InvalidInput(f"{network} is said to be in two places", "Say it once.")
            node.place = number
        self.places = tuple(places)
        """All localities, each once; `find` gives an index."""
        self._found: dict[bytes, tuple[int | None, int] | None] = {}

    def of(self, option: bytes) -> tuple[int | None, int] | None:
        """What `find` says of the network in an ECS option; None when it is malformed."""
        if option in self._found:
            return self._found[option]
        if len(self._found) >= _OPTIONS_KEPT:
            self._found.clear()
        network = read_subnet(option)
        found = self._found[option] = None if network is None else self.find(network)
        return found

    def find(self, client: IpNetwork) -> tuple[int | None, int]:
        """The place of a network of clients (None: unknown), and for how long a prefix of it that answer is right.

        RFC 7871, section 7.2.1: where told prefixes lie within each other an answer holds only for the shortest prefix
        that contains no other one, or a resolver would give it to clients that it is wrong for. The length is greater
        than the client's own when its prefix holds several places; it is 0 when nobody told anything, and when the
        client asks not to be looked at (section 7.1.2).
        """
        node = self._roots[client.version]
        if client.prefixlen == 0:
            return node.place, 0
        place, depth = node.place, 0
        while any(node.below):
            bit = _bit(client, depth)
            depth += 1
            below = node.below[bit]
            if below is None:
                break
            node = below
            if depth <= client.prefixlen and node.place is not None:
                place = node.place
        return place, depth


def _bit(network: IpNetwork, at: int) -> int:
    return int(network.network_address) >> (network.max_prefixlen - 1 - at) & 1


@lru_cache(_RESOLVERS_KEPT)
def is_named(client: str, resolvers: tuple[IpNetwork, ...]) -> bool:
    """Whether the client is one of the resolvers whose word about subnets counts."""
    if not resolvers or not client:
        return False
    address = ipaddress.ip_address(client.partition("%")[0])
    return any(address in network for network in resolvers)


def read_subnet(body: bytes) -> IpNetwork | None:
    """The client's network in an ECS option; None when it is malformed (then FORMERR: RFC 7871, section 7.1.2)."""
    if len(body) < 4:
        return None
    family, source, scope = struct.unpack_from("!HBB", body)
    if body == bytes(4):
        return ipaddress.IPv4Network((0, 0))  # as dig and BIND send it: no family at all, because it needs none
    size = {1: 4, 2: 16}.get(family)
    prefix = body[4:]
    if size is None or scope or source > size * 8 or len(prefix) != (source + 7) // 8:
        return None
    packed = prefix + bytes(size - len(prefix))
    try:
        return ipaddress.ip_network((packed, source))
    except ValueError:
        return None  # bits set beyond the prefix


def subnet_answer(body: bytes, scope: int) -> bytes:
    """The option to send back: the client's own, with the prefix length that our answer depends on."""
    return body[:3] + bytes((scope,)) + body[4:]
