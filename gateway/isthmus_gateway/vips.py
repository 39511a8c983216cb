"""Give every imported service an address of its own that stays the same for the life of the import."""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Set
from functools import lru_cache

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.names import ServiceName

Range = ipaddress.IPv4Network | ipaddress.IPv6Network

REMEMBERED = 4096
"""So many services that are gone are remembered at least; beyond that as many as there are. Else the snapshot, and the
work for each service that comes or goes, would grow with every name that there ever was."""


class Allocation(msgspec.Struct, frozen=True):
    """Who has which address, and the services for which none was left.

    `assigned` also remembers services that are gone, so that they get their address back when they return: these first,
    in the order in which they went.
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
    *,
    complete: bool = True,
) -> Allocation:
    """An address of `pool` for each wanted service; not `complete`: there may be more of them, so nobody is forgotten.

    A service that has one keeps it. A new one starts to look at the hash of its name, so that gateways that never
    talked to each other mostly agree. When the pool is full, addresses of services that are gone are given away,
    of those that have been gone for longest first.
    """
    services = set(wanted)
    usable = _usable(assigned.values(), pool, reserved)
    known = {name: address for name, address in assigned.items() if address in usable}
    gone = [name for name in known if name not in services]
    if complete:
        del gone[: max(0, len(gone) - max(REMEMBERED, len(services)))]
    kept = {name: known[name] for name in gone}
    kept.update((name, address) for name, address in known.items() if name in services)
    taken = set(kept.values()) | _usable(reserved, pool, frozenset())
    exhausted: list[ServiceName] = []
    for service in sorted(services - kept.keys()):
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


def _usable(addresses: Iterable[str], pool: Range, reserved: Set[str]) -> set[str]:
    version, (first, size) = pool.version, _bounds(pool)
    found = ((address, *_parsed(address)) for address in addresses)
    return {a for a, is_version, number in found if is_version == version and first <= number < first + size} - reserved


@lru_cache(maxsize=65_536)
def _parsed(address: str) -> tuple[int, int]:
    """Version and number: all addresses are looked at whenever a service comes or goes."""
    value = ipaddress.ip_address(address)
    return value.version, int(value)


def _probe(service: ServiceName, pool: Range, taken: Set[str]) -> str:
    """The first free address from the service's own beginning on; there must be one."""
    first, size = _bounds(pool)
    digest = hashlib.blake2b(str(service).encode(), digest_size=8).digest()
    at = int.from_bytes(digest) % size
    while (address := str(pool.network_address + (first - int(pool.network_address) + at))) in taken:
        at = (at + 1) % size
    return address
