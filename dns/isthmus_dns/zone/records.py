"""The records of one service under one origin, exactly those of MCS DNS 1.0.0 (sections 2.3 and 2.4)."""

import struct

import msgspec

from isthmus_core.names import Locality
from isthmus_dns.message import wire
from isthmus_dns.zone.nearest import nearest
from isthmus_dns.zone.service import Host, Service
from isthmus_dns.zone.steps import MANY, Steps, finished

WHY = b"\4_why"
"""`_why.<service>` explains the answer; it is computed when asked, because it tells ages."""

# RFC 2782: one priority; equal weights above zero, so that clients choose evenly.
SRV_HEAD = struct.pack("!HH", 0, 100)


class RRset(msgspec.Struct, frozen=True):
    """All records of one owner and type; `helped_by` are the addresses of the targets, for the additional section."""

    owner: bytes
    rtype: int
    rdatas: tuple[bytes, ...]
    helped_by: tuple["RRset", ...] = ()


def service_records(service: Service, origin: bytes) -> list[RRset]:
    """The record sets of a service in the zone `origin`; nothing for a headless service without ready endpoints."""
    return finished(making_records(service, origin))


def making_records(service: Service, origin: bytes) -> Steps[list[RRset]]:
    """`service_records` in steps."""
    name = service.owner + origin
    if service.headless:
        return (yield from _headless(service, name))
    if service.endpoints and service.hosts:
        near = yield from choosing_records(service, origin, None)
        return near + (yield from _host_records(service, name))
    addresses = _address_sets(name, service.addresses)
    if not addresses:
        return []
    found = list(addresses)
    helped_by = tuple(addresses)
    for owner, number in {port.owner: port.number for port in service.ports}.items():
        rdata = SRV_HEAD + number.to_bytes(2, "big") + name
        found.append(RRset(owner + name, wire.SRV, (rdata,), helped_by))
    _add_bare_srv(found, name)
    return found


def _headless(service: Service, name: bytes) -> Steps[list[RRset]]:
    if not service.hosts:
        return []  # MCS DNS 2.4.1: no ready endpoint, so the name does not exist
    found = _address_sets(name, tuple(dict.fromkeys(host.address for host in service.hosts)))
    by_host: dict[bytes, dict[bytes, None]] = {}
    by_port: dict[bytes, dict[bytes, bytes]] = {}
    for at, host in enumerate(service.hosts):
        if at % MANY == MANY - 1:
            yield
        target = host.owner + name
        by_host.setdefault(target, {})[host.address] = None
        for port in host.ports:
            by_port.setdefault(port.owner, {})[SRV_HEAD + port.number.to_bytes(2, "big") + target] = target
    sets: dict[bytes, list[RRset]] = {}
    for at, (target, addresses) in enumerate(by_host.items()):
        if at % MANY == MANY - 1:
            yield
        sets[target] = _address_sets(target, tuple(addresses))
        found += sets[target]
    for owner, rdatas in by_port.items():
        if len(rdatas) >= MANY:
            yield
        helped_by = tuple(rrset for target in dict.fromkeys(rdatas.values()) for rrset in sets[target])
        found.append(RRset(owner + name, wire.SRV, tuple(rdatas), helped_by))
    _add_bare_srv(found, name)
    return found


def near_records(service: Service, origin: bytes, client: Locality | None) -> list[RRset]:
    """What the service's own names say to clients at `client`."""
    return finished(choosing_records(service, origin, client))


def choosing_records(service: Service, origin: bytes, client: Locality | None) -> Steps[list[RRset]]:
    """`near_records` in steps: the nearest endpoints, and their own port numbers.

    The choice is made for each kind of address and each port by itself, so that whoever can use only one of them gets
    the nearest that has it, and which names and types exist does not depend on where the client is.
    """
    name = service.owner + origin
    found = []
    few = len(service.hosts) < MANY
    for rtype, size in ((wire.A, 4), (wire.AAAA, 16)):
        chosen = nearest((host for host in service.hosts if len(host.address) == size), client)
        if not few:
            yield
        if chosen:
            found.append(RRset(name, rtype, tuple(dict.fromkeys(host.address for host in chosen))))
    for owner in dict.fromkeys(port.owner for port in service.ports):
        chosen = nearest((host for host in service.hosts if owner in [port.owner for port in host.ports]), client)
        if not few:
            yield
        if not chosen:
            continue
        rdatas = [SRV_HEAD + _number(host, owner).to_bytes(2, "big") + host.owner + name for host in chosen]
        helped_by = [rrset for host in chosen for rrset in _address_sets(host.owner + name, (host.address,))]
        found.append(RRset(owner + name, wire.SRV, tuple(dict.fromkeys(rdatas)), tuple(dict.fromkeys(helped_by))))
    _add_bare_srv(found, name)
    return found


def _number(host: Host, owner: bytes) -> int:
    """The number of a port that the endpoint has."""
    return {port.owner: port.number for port in host.ports}[owner]


def _host_records(service: Service, name: bytes) -> Steps[list[RRset]]:
    """The names of single endpoints, which SRV records point to: a port belongs to one of them only."""
    found: list[RRset] = []
    for at, (owner, address) in enumerate({host.owner: host.address for host in service.hosts}.items()):
        if at % MANY == MANY - 1:
            yield
        found += _address_sets(owner + name, (address,))
    return found


def _address_sets(owner: bytes, addresses: tuple[bytes, ...]) -> list[RRset]:
    four = tuple(address for address in addresses if len(address) == 4)
    six = tuple(address for address in addresses if len(address) == 16)
    found = [RRset(owner, wire.A, four)] if four else []
    return [*found, RRset(owner, wire.AAAA, six)] if six else found


def _add_bare_srv(found: list[RRset], name: bytes) -> None:
    """The SRV set at the service's own name: all ports, each target and port once; resolvers in use ask for it."""
    by_port = [rrset for rrset in found if rrset.rtype == wire.SRV]
    if not by_port:
        return
    rdatas = tuple(dict.fromkeys(rdata for rrset in by_port for rdata in rrset.rdatas))
    helped = {(rrset.owner, rrset.rtype): rrset for srv in by_port for rrset in srv.helped_by}
    found.append(RRset(name, wire.SRV, rdatas, tuple(helped.values())))
