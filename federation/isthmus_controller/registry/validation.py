"""Decide, resource by resource, what of a cluster's wishes may be written, and under which key.

A cluster writes only its own keys; the bytes that it sent are the bytes that are stored and told to all others.
"""

import ipaddress
from collections.abc import Callable, Iterable

import msgspec
from google.protobuf.message import DecodeError

from isthmus_controller.registry.records import check_schema
from isthmus_controller.store.keys import EndpointsKey, ExportKey, GatewayKey, SessionKey
from isthmus_core.errors import InvalidInput
from isthmus_core.model import Endpoint, Export
from isthmus_core.names import ClusterId, ServiceName, parse_cluster_id, parse_port_name
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb

MAX_BODY = 512 * 1024
"""Bytes of one resource: a third of what etcd takes in one request."""
MAX_ENDPOINTS = 5_000
MAX_PORTS = 100
MAX_LABELS = 64
_SPLIT = "Spread its endpoints over several services, or give it an address of its own (not headless)."
_AFFINITIES = ("", "None", "ClientIP")


OwnKey = GatewayKey | ExportKey | EndpointsKey
"""The keys that a cluster's resources become."""


class Wish(msgspec.Struct, frozen=True):
    """One key that a cluster wants changed; body None: removed."""

    key: OwnKey | SessionKey
    body: bytes | None


class Rejected(msgspec.Struct, frozen=True):
    """A resource that is not taken, and the sentence that its ServiceExport's conditions will show."""

    name: str
    reason: str


def validate(cluster: ClusterId, type_url: str, name: str, body: bytes | None) -> Wish | Rejected:
    """One resource that `cluster` published (or, with body None, withdrew) on its Exports stream."""
    try:
        check = _CHECKS.get(type_url)
        if check is None:
            raise InvalidInput(f"type {type_url} cannot be published by a cluster")
        make_key, verify = check
        key = make_key(cluster, name)
        if body is not None:
            if len(body) > MAX_BODY:
                raise InvalidInput(f"it has {len(body)} bytes and at most {MAX_BODY} are allowed", _SPLIT)
            verify(key, body)
        return Wish(key, body)
    except InvalidInput as error:
        return Rejected(name, str(error))
    except (DecodeError, KeyError, ValueError) as error:
        return Rejected(name, f"it cannot be decoded: {str(error) or type(error).__name__}")


def _gateway_key(cluster: ClusterId, name: str) -> OwnKey:
    return GatewayKey(cluster, parse_cluster_id(name))


def _export_key(cluster: ClusterId, name: str) -> OwnKey:
    return ExportKey(ServiceName.parse(name), cluster)


def _capacity_key(cluster: ClusterId, name: str) -> OwnKey:
    return EndpointsKey(ServiceName.parse(name), cluster)


def _gateway(key: OwnKey, body: bytes) -> None:
    message = pb.Gateway()
    message.ParseFromString(body)
    check_schema(message.schema)
    gateway = codec.gateway_value(message)
    _own(key, gateway.cluster)
    if key != GatewayKey(gateway.cluster, gateway.id):
        raise InvalidInput(f"the gateway calls itself {gateway.id!r}, but the resource is named otherwise")
    _ip(gateway.address, "the gateway's address")


def _export(key: OwnKey, body: bytes) -> None:
    message = pb.Export()
    message.ParseFromString(body)
    check_schema(message.schema)
    export = codec.export_value(message)
    _own(key, export.cluster)
    _same(key, ExportKey(export.service, export.cluster), export.service)
    _ports(export)
    if export.session_affinity not in _AFFINITIES:
        raise InvalidInput(f"session affinity {export.session_affinity!r} is not known", "Use None or ClientIP.")
    if len(export.labels) > MAX_LABELS or len(export.annotations) > MAX_LABELS:
        raise InvalidInput(f"it has more than {MAX_LABELS} exported labels or annotations")
    if message.first_revision:
        raise InvalidInput("the age of an export is the registry's to give", "Leave first_revision empty.")


def _ports(export: Export) -> None:
    ports = export.ports
    if not 1 <= len(ports) <= MAX_PORTS:
        raise InvalidInput(f"it has {len(ports)} ports", f"Give 1 to {MAX_PORTS} ports.")
    for port in ports:
        parse_port_name(port.name)
    _unique("port name", [port.name for port in ports])
    _unique("port", [f"{port.port}/{port.protocol.value}" for port in ports])
    if len(ports) > 1 and not all(port.name for port in ports):
        raise InvalidInput("one of several ports has no name", "Name every port of a service that has more than one.")


def _capacity(key: OwnKey, body: bytes) -> None:
    message = pb.Capacity()
    message.ParseFromString(body)
    check_schema(message.schema)
    capacity = codec.capacity_value(message)
    _own(key, capacity.cluster)
    _same(key, EndpointsKey(capacity.service, capacity.cluster), capacity.service)
    _unique("locality", [str(zone.locality) for zone in capacity.zones])
    for zone in capacity.zones:
        if zone.ready > zone.total:
            raise InvalidInput(f"{zone.locality} has more ready ({zone.ready}) than it has at all ({zone.total})")
    if len(capacity.endpoints) > MAX_ENDPOINTS:
        said = f"it lists {len(capacity.endpoints)} endpoints and at most {MAX_ENDPOINTS} are allowed"
        raise InvalidInput(said, _SPLIT)
    for endpoint in capacity.endpoints:
        _endpoint(endpoint)


def _endpoint(endpoint: Endpoint) -> None:
    _ip(endpoint.address, "an endpoint's address")
    for name, number in endpoint.ports.items():
        parse_port_name(name)
        if not 1 <= number <= 65535:
            raise InvalidInput(f"port {number} of endpoint {endpoint.address} is out of range")
    if endpoint.hostname:
        parse_cluster_id(endpoint.hostname)


_CHECKS: dict[str, tuple[Callable[[ClusterId, str], OwnKey], Callable[[OwnKey, bytes], None]]] = {
    codec.GATEWAY: (_gateway_key, _gateway),
    codec.EXPORT: (_export_key, _export),
    codec.CAPACITY: (_capacity_key, _capacity),
}


def _own(key: OwnKey, says: ClusterId) -> None:
    if says != key.cluster:
        raise InvalidInput(f"it speaks for cluster {says!r}, and its certificate says {key.cluster!r}")


def _same(key: OwnKey, expected: OwnKey, says: ServiceName) -> None:
    if key != expected:
        raise InvalidInput(f"it speaks of service {says}, but the resource is named otherwise")


def _ip(address: str, what: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise InvalidInput(f"{what} {address!r} is no IP address") from None


def _unique(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise InvalidInput(f"{what} {value!r} is given twice")
        seen.add(value)
