"""EDNS client subnet: honoured only from resolvers that were named, ignored from everybody else (RFC 7871)."""

import ipaddress
import struct
from collections.abc import Sequence

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(texts: Sequence[str]) -> tuple[IpNetwork, ...]:
    """Addresses and networks in text; ValueError names the wrong one."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def is_named(client: str, resolvers: Sequence[IpNetwork]) -> bool:
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
