"""One imported service as the zone needs it, checked once where it comes in from the feed."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec
from google.protobuf.message import DecodeError

from isthmus_core.errors import InvalidInput
from isthmus_core.names import Locality
from isthmus_dns.zone.steps import MANY, Steps, finished
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!\Z)|\Z)){4}\Z", re.ASCII)
_HOSTS_KEPT = 16384
_PROTOCOL = {pb.PROTOCOL_UNSPECIFIED: b"\4_tcp", pb.TCP: b"\4_tcp", pb.UDP: b"\4_udp", pb.SCTP: b"\5_sctp"}


class Port(msgspec.Struct, frozen=True):
    """A named port; `owner` is `_<port>._<proto>` in wire form."""

    owner: bytes
    number: int


class Host(msgspec.Struct, frozen=True):
    """A ready endpoint; `owner` is its name below the service's in wire form.

    That is `<hostname>.<cluster>` for headless services, else its address alone: `<cluster>.<svc>` must not exist there
    (MCS DNS 2.3). `locality` and `tier` (the gateway's order of failover) stand only where they choose the answer.
    """

    owner: bytes
    address: bytes
    ports: tuple[Port, ...]
    cluster: str = ""
    locality: Locality | None = None
    tier: int = 0


class Source(msgspec.Struct, frozen=True):
    """A cluster behind the answer, which rule chose it, and how fresh the knowledge is (Unix milliseconds).

    `confirmed_at_ms` is 0 while its state is as fresh as the zone; `observed_at_ms` is when it changed last.
    """

    cluster: str
    rule: str
    observed_at_ms: int
    stale: bool
    tier: int = 0
    confirmed_at_ms: int = 0


class Service(msgspec.Struct, frozen=True):
    """All that the zone says about one service, in the order it came; `owner` is `<svc>.<ns>.svc` in wire form."""

    owner: bytes
    headless: bool
    addresses: tuple[bytes, ...]
    ports: tuple[Port, ...]
    hosts: tuple[Host, ...]
    sources: tuple[Source, ...]
    endpoints: bool = False
    """Whether endpoints are the answer rather than `addresses`, which stand in while there are no `hosts`."""


class Reasons(msgspec.Struct, frozen=True):
    """Why a service is answered as it is: what is kept of it beside its compiled answers."""

    sources: tuple[Source, ...]
    endpoints: bool
    direct: bool
    """Whether the addresses of `hosts`, or of a headless service's endpoints, are the answer."""
    hosts: tuple[Host, ...]


def reasons_of(service: Service) -> Reasons:
    """What `_why` tells of a service; the endpoints are only kept where the answer is chosen among them."""
    hosts = service.hosts if service.endpoints else ()
    return Reasons(service.sources, service.endpoints, bool(hosts) or service.headless, hosts)


def read_service(name: str, body: bytes) -> Service:
    """The service in a ZoneService message; InvalidInput says what is wrong, and only this one is refused."""
    return finished(reading_service(name, body))


def reading_service(name: str, body: bytes) -> Steps[Service]:
    """`read_service` in steps."""
    try:
        message = pb.ZoneService.FromString(body)
    except DecodeError:
        raise InvalidInput(f"zone service {name!r} is not a ZoneService message") from None
    if f"{message.namespace}/{message.name}" != name:
        raise InvalidInput(f"zone service {name!r} says that it is {message.namespace}/{message.name}")
    headless = message.type == pb.HEADLESS
    endpoints = message.dns_mode == pb.DNS_ENDPOINTS and not headless
    ports = _ports(message.ports)
    hosts: list[Host] = []
    for at in range(0, len(message.hosts) if headless or endpoints else 0, MANY):
        if at:
            yield
        hosts += _hosts(message.hosts[at : at + MANY], ports, headless)
    return Service(
        owner=_label(message.name) + _label(message.namespace) + b"\3svc",
        headless=headless,
        addresses=tuple(read_address(ip) for ip in message.ips),
        ports=ports,
        hosts=tuple(hosts),
        sources=tuple(
            Source(s.cluster, s.rule, s.observed_at_ms, s.stale, s.tier, s.confirmed_at_ms) for s in message.provenance
        ),
        endpoints=endpoints,
    )


def service_owner(name: str) -> bytes:
    """The owner of the service with this resource name, for removals."""
    namespace, _, service = name.partition("/")
    return _label(service) + _label(namespace) + b"\3svc"


def _label(text: str) -> bytes:
    if not _LABEL.match(text):
        raise InvalidInput(f"{text!r} is not a DNS label", "Use lower-case letters, digits and hyphens.")
    return bytes((len(text),)) + text.encode()


def read_address(text: str) -> bytes:
    """The four or sixteen bytes of an IP address in text."""
    if _IPV4.match(text):
        return bytes(map(int, text.split(".")))
    try:
        return ipaddress.IPv6Address(text).packed
    except ValueError:
        raise InvalidInput(f"{text!r} is not an IP address") from None


def _ports(ports: Iterable[pb.ServicePort]) -> tuple[Port, ...]:
    found = []
    for port in ports:
        if not port.name:
            continue  # MCS DNS 2.3.2: unnamed ports have no SRV record
        if not 0 < port.port < 65536:
            raise InvalidInput(f"port {port.port} is not between 1 and 65535")
        if len(port.name) > 62 or not _LABEL.match(port.name):
            raise InvalidInput(f"port name {port.name!r} is not a DNS label of at most 62 characters")
        if port.protocol not in _PROTOCOL:
            raise InvalidInput(f"protocol {port.protocol} is not known")
        owner = bytes((len(port.name) + 1,)) + b"_" + port.name.encode() + _PROTOCOL[port.protocol]
        found.append(Port(owner, port.port))
    return tuple(found)


def _hosts(hosts: Sequence[pb.ZoneHost], ports: tuple[Port, ...], headless: bool) -> list[Host]:
    """The endpoints; most of them were there before a change, too, and are not read again."""
    bodies = [host.SerializeToString(deterministic=True) for host in hosts]
    return [_host(body, ports) for body in bodies] if headless else [_near_host(body) for body in bodies]


@lru_cache(_HOSTS_KEPT)
def _host(body: bytes, ports: tuple[Port, ...]) -> Host:
    """An endpoint; one that names no port, not even an unnamed one, has those of the service."""
    host = pb.ZoneHost.FromString(body)
    address = read_address(host.address)
    # MCS DNS 2.1: without a hostname of its own an endpoint gets a unique identifier; like CoreDNS, its address.
    labels = [_label(label) for label in host.hostname.split(".")] if host.hostname else [_label(_dashed(address))]
    return Host(b"".join(labels) + _label(host.cluster), address, _ports(host.ports) if host.ports else ports)


@lru_cache(_HOSTS_KEPT)
def _near_host(body: bytes) -> Host:
    host = pb.ZoneHost.FromString(body)
    address = read_address(host.address)
    locality = codec.locality_value(host.locality) if host.HasField("locality") else None
    return Host(_label(_dashed(address)), address, _ports(host.ports), host.cluster, locality, host.tier)


def _dashed(address: bytes) -> str:
    return str(ipaddress.ip_address(address).exploded).replace(".", "-").replace(":", "-")
