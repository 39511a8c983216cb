"""One imported service as the zone needs it, checked once where it comes in from the feed."""

import ipaddress
import re
from collections.abc import Iterable

import msgspec
from google.protobuf.message import DecodeError

from isthmus_core.errors import InvalidInput
from isthmus_sync.proto import isthmus_pb2 as pb

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!\Z)|\Z)){4}\Z", re.ASCII)
_PROTOCOL = {pb.PROTOCOL_UNSPECIFIED: b"\4_tcp", pb.TCP: b"\4_tcp", pb.UDP: b"\4_udp", pb.SCTP: b"\5_sctp"}


class Port(msgspec.Struct, frozen=True):
    """A named port; `owner` is `_<port>._<proto>` in wire form."""

    owner: bytes
    number: int


class Host(msgspec.Struct, frozen=True):
    """A ready endpoint of a headless service; `owner` is `<hostname>.<cluster>` in wire form."""

    owner: bytes
    address: bytes
    ports: tuple[Port, ...]


class Source(msgspec.Struct, frozen=True):
    """A cluster behind the answer, which rule chose it, and how fresh the knowledge is (Unix milliseconds)."""

    cluster: str
    rule: str
    observed_at_ms: int
    stale: bool


class Service(msgspec.Struct, frozen=True):
    """All that the zone says about one service, in the order it came; `owner` is `<svc>.<ns>.svc` in wire form."""

    owner: bytes
    headless: bool
    addresses: tuple[bytes, ...]
    ports: tuple[Port, ...]
    hosts: tuple[Host, ...]
    sources: tuple[Source, ...]


def read_service(name: str, body: bytes) -> Service:
    """The service in a ZoneService message; InvalidInput says what is wrong, and only this one is refused."""
    try:
        message = pb.ZoneService.FromString(body)
    except DecodeError:
        raise InvalidInput(f"zone service {name!r} is not a ZoneService message") from None
    if f"{message.namespace}/{message.name}" != name:
        raise InvalidInput(f"zone service {name!r} says that it is {message.namespace}/{message.name}")
    headless = message.type == pb.HEADLESS
    return Service(
        owner=_label(message.name) + _label(message.namespace) + b"\3svc",
        headless=headless,
        addresses=_addresses(message),
        ports=_ports(message.ports),
        hosts=tuple(_host(host) for host in message.hosts) if headless else (),
        sources=tuple(Source(s.cluster, s.rule, s.observed_at_ms, s.stale) for s in message.provenance),
    )


def service_owner(name: str) -> bytes:
    """The owner of the service with this resource name, for removals."""
    namespace, _, service = name.partition("/")
    return _label(service) + _label(namespace) + b"\3svc"


def _addresses(message: pb.ZoneService) -> tuple[bytes, ...]:
    """The VIPs; without any, the endpoints that the gateway chose for clients outside of the mesh."""
    if message.ips or message.type == pb.HEADLESS:
        return tuple(read_address(ip) for ip in message.ips)
    return tuple(dict.fromkeys(read_address(host.address) for host in message.hosts))


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


def _host(host: pb.ZoneHost) -> Host:
    address = read_address(host.address)
    # MCS DNS 2.1: without a hostname of its own an endpoint gets a unique identifier; like CoreDNS, its address.
    labels = [_label(label) for label in host.hostname.split(".")] if host.hostname else [_label(_dashed(address))]
    return Host(b"".join(labels) + _label(host.cluster), address, _ports(host.ports))


def _dashed(address: bytes) -> str:
    return str(ipaddress.ip_address(address).exploded).replace(".", "-").replace(":", "-")
