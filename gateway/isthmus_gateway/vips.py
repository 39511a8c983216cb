"""Give every imported service an address of its own that stays the same for the life of the import."""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Set

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.names import ServiceName

Range = ipaddress.IPv4Network | ipaddress.IPv6Network


class Allocation(msgspec.Struct, frozen=True):
    """Who has which address, and the services for which none was left.

    `assigned` also remembers services that are gone, so that they get their address back when they return.
    """

    assigned: Mapping[ServiceName, str]
    exhausted: tuple[ServiceName, ...] = ()


def parse_range(text: str) -> Range:
    """An address range such as `127.80.0.0/16`; raises InvalidInput."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        mend = "Write a network and its length, such as 127.80.0.0/16, with no bits set behind the length."
        raise InvalidInput(f"the VIP range {text!r} is no network: {error}", mend) from error


def allocate(
    wanted: Iterable[ServiceName],
    assigned: Mapping[ServiceName, str],
    pool: Range,
    reserved: Set[str] = frozenset(),
) -> Allocation:
    """An address of `pool` for each wanted service.

    A service that has one keeps it. A new one starts to look at the hash of its name, so that gateways that never
    talked to each other mostly agree. When the pool is full, addresses of services that are gone are given away.
    """
    services = sorted(set(wanted))
    kept = {name: address for name, address in assigned.items() if _usable(address, pool, reserved)}
    taken = set(kept.values()) | {address for address in reserved if _usable(address, pool, frozenset())}
    wanted_now = set(services)
    gone = [name for name in kept if name not in wanted_now]
    exhausted: list[ServiceName] = []
    for service in services:
        if service in kept:
            continue
        if len(taken) < _bounds(pool)[1]:
            address = _probe(service, pool, taken)
        elif gone:
            address = kept.pop(gone.pop(0))
        else:
            exhausted.append(service)
            continue
        kept[service] = address
        taken.add(address)
    return Allocation(kept, tuple(exhausted))


def _bounds(pool: Range) -> tuple[int, int]:
    """First address and number of addresses; the network's own and its broadcast address are nobody's."""
    first, size = int(pool.network_address), pool.num_addresses
    return (first, size) if size <= 2 else (first + 1, size - 2)


def _usable(address: str, pool: Range, reserved: Set[str]) -> bool:
    value = ipaddress.ip_address(address)
    first, size = _bounds(pool)
    return value.version == pool.version and first <= int(value) < first + size and address not in reserved


def _probe(service: ServiceName, pool: Range, taken: Set[str]) -> str:
    """The first free address from the service's own beginning on; there must be one."""
    first, size = _bounds(pool)
    digest = hashlib.blake2b(str(service).encode(), digest_size=8).digest()
    at = int.from_bytes(digest) % size
    while (address := str(pool.network_address + (first - int(pool.network_address) + at))) in taken:
        at = (at + 1) % size
    return address
