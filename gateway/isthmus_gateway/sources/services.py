"""Turn the documents of a file into services and exports; whatever cannot be used is an error with its place."""

import datetime
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.model import (
    AppProtocol,
    CheckKind,
    Endpoint,
    ExportSpec,
    HealthCheck,
    LocalService,
    Protocol,
    ServicePort,
    ServiceType,
)
from isthmus_core.names import Locality, ServiceName, parse_port_name
from isthmus_gateway.sources.documents import (
    Fields,
    FileError,
    Node,
    Place,
    Text,
    fields_of,
    flag_of,
    items_of,
    need,
    number_of,
    one_of,
    only,
    read_documents,
    text_of,
    texts_of,
)

SERVICE_VERSIONS = ("isthmus.dev/v1alpha1", "federation.isthmus.dev/v1alpha1")
EXPORT_VERSIONS = ("multicluster.x-k8s.io/v1alpha1", "multicluster.x-k8s.io/v1beta1")
MAX_WEIGHT = 1_000_000

_METADATA = ("name", "namespace", "labels", "annotations", "creationTimestamp")
_SPEC = ("type", "clusterIP", "ports", "endpoints", "healthCheck", "sessionAffinity")
_PORT = ("name", "port", "targetPort", "protocol", "appProtocol")
_ENDPOINT = ("address", "locality", "weight", "hostname", "ports", "ready")
_CHECK = ("http", "tcp", "grpc", "none", "interval", "timeout", "unhealthyThreshold", "healthyThreshold")
_TYPES = ("ClusterIP", "ClusterSetIP", "Headless", "NodePort", "LoadBalancer")
_KUBERNETES_ONLY = {
    "selector": "A file describes machines, not pods: list them under 'endpoints'.",
    "externalName": "An ExternalName service cannot be exported: list its addresses under 'endpoints'.",
}

# Kubernetes' names for what is spoken inside a port (KEP-3726), and Istio's for port names: "<protocol>[-<suffix>]".
_APP_PROTOCOLS = {
    "http": AppProtocol.HTTP,
    "http2": AppProtocol.HTTP2,
    "grpc": AppProtocol.GRPC,
    "tcp": AppProtocol.TCP,
    "https": AppProtocol.TCP,
    "tls": AppProtocol.TCP,
    "kubernetes.io/h2c": AppProtocol.HTTP2,
    "kubernetes.io/ws": AppProtocol.HTTP,
    "kubernetes.io/wss": AppProtocol.TCP,
}

_HOSTNAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|m)\Z")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000}


class Described(msgspec.Struct, frozen=True):
    """A service and where it stands."""

    service: LocalService
    place: Place


class DescribedExport(msgspec.Struct, frozen=True):
    """An export and where it stands."""

    service: ServiceName
    spec: ExportSpec
    place: Place


class FileContent(msgspec.Struct, frozen=True):
    """Everything that one file says."""

    services: tuple[Described, ...] = ()
    exports: tuple[DescribedExport, ...] = ()


D = TypeVar("D", Described, DescribedExport)
T = TypeVar("T")


def parse_file(file: str, content: bytes, default: Locality) -> FileContent:
    """What a file says; `default` is the locality of endpoints that name none. Raises FileError."""
    services: dict[ServiceName, Described] = {}
    exports: dict[ServiceName, DescribedExport] = {}
    for node in read_documents(file, content):
        document = fields_of(node, "a document")
        kind = one_of(need(document, "kind", "a document"), "kind", ("Service", "ServiceExport"))
        fields = only(document, ("apiVersion", "kind", "metadata", "spec", "status"), f"a {kind}")
        versions = SERVICE_VERSIONS if kind == "Service" else EXPORT_VERSIONS
        one_of(need(document, "apiVersion", f"a {kind}"), f"apiVersion of a {kind}", versions)
        name, created_ms = _metadata(need(document, "metadata", f"a {kind}"), kind)
        spec = _spec(fields.get("spec"), document)
        if kind == "Service":
            described = Described(_service(name, spec, default), document.place)
            _add(services, name, described, described.place, kind)
        else:
            export = DescribedExport(name, _export(spec, created_ms), document.place)
            _add(exports, name, export, export.place, kind)
    return FileContent(tuple(services.values()), tuple(exports.values()))


def _add(found: dict[ServiceName, D], name: ServiceName, new: D, place: Place, kind: str) -> None:
    if (first := found.get(name)) is not None:
        raise FileError(place, f"{kind} {name} is described here and in line {first.place.line}", "Keep one of them.")
    found[name] = new


def _spec(node: Node | None, document: Fields) -> Fields:
    if node is None or (isinstance(node, Text) and node.empty):
        return Fields(document.place, {}, {}, 1)
    return fields_of(node, "spec")


def _at(place: Place, parse: Callable[[], T]) -> T:
    """What `parse` gives; an InvalidInput gets the place."""
    try:
        return parse()
    except FileError:
        raise
    except InvalidInput as error:
        raise FileError(place, error.sentence, error.mend) from error


def _metadata(node: Node, kind: str) -> tuple[ServiceName, int]:
    """The name and the creation time in milliseconds (0: none given)."""
    metadata = fields_of(node, "metadata")
    fields = only(metadata, _METADATA, f"metadata of a {kind}")
    name = need(metadata, "name", f"metadata of a {kind}")
    namespace = fields.get("namespace")
    # Kubernetes' default namespace is the one without a name of its own.
    space = text_of(namespace, "namespace") if namespace is not None else "default"
    service = _at(name.place, lambda: ServiceName.of(space, text_of(name, "name")))
    created = fields.get("creationTimestamp")
    if created is None or (isinstance(created, Text) and created.empty):
        return service, 0
    return service, _timestamp_ms(created)


def _timestamp_ms(node: Node) -> int:
    text = text_of(node, "creationTimestamp")
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise FileError(node.place, f"{text!r} is no time", "Write it like 2026-01-31T12:00:00Z.") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0, int(moment.timestamp() * 1000))


def _export(spec: Fields, created_ms: int) -> ExportSpec:
    fields = only(spec, ("exportedLabels", "exportedAnnotations"), "spec of a ServiceExport")
    labels, annotations = fields.get("exportedLabels"), fields.get("exportedAnnotations")
    return ExportSpec(
        labels=texts_of(labels, "exportedLabels") if labels is not None else {},
        annotations=texts_of(annotations, "exportedAnnotations") if annotations is not None else {},
        exported_at_ms=created_ms,
    )


def _service(name: ServiceName, spec: Fields, default: Locality) -> LocalService:
    fields = only(spec, _SPEC, "spec of a Service", _KUBERNETES_ONLY)
    kind = _type(fields)
    ports, targets = _ports(need(spec, "ports", "spec of a Service"), kind)
    affinity = fields.get("sessionAffinity")
    endpoints = fields.get("endpoints")
    check = fields.get("healthCheck")
    return LocalService(
        service=name,
        type=kind,
        ports=ports,
        endpoints=_endpoints(endpoints, targets, default) if endpoints is not None else (),
        health_check=_health_check(check, ports) if check is not None else HealthCheck(),
        session_affinity=one_of(affinity, "sessionAffinity", ("None", "ClientIP")) if affinity is not None else "None",
    )


def _type(fields: Mapping[str, Node]) -> ServiceType:
    """`clusterIP: None` makes a service headless, like in Kubernetes; `type: Headless` says the same in MCS words."""
    kind, address = fields.get("type"), fields.get("clusterIP")
    if isinstance(kind, Text) and kind.text == "ExternalName":
        raise FileError(kind.place, "an ExternalName service cannot be served", "List its addresses under 'endpoints'.")
    word = one_of(kind, "type", _TYPES) if kind is not None else "ClusterIP"
    if address is not None:
        one_of(address, "clusterIP", ("None",))
        return ServiceType.HEADLESS
    return ServiceType.HEADLESS if word == "Headless" else ServiceType.CLUSTER_SET_IP


def _ports(node: Node, kind: ServiceType) -> tuple[tuple[ServicePort, ...], dict[str, int]]:
    """The ports, and by port name the number that endpoints listen on."""
    nodes = items_of(node, "ports")
    if not nodes:
        raise FileError(node.place, "a Service needs at least one port", "Add '- port: 80' below 'ports'.")
    ports: list[ServicePort] = []
    targets: dict[str, int] = {}
    for each in nodes:
        port, target = _port(fields_of(each, "a port"), alone=len(nodes) == 1, kind=kind)
        for other in ports:
            if other.name == port.name or (other.port, other.protocol) == (port.port, port.protocol):
                what = f"named {port.name!r}" if other.name == port.name else f"{port.port}/{port.protocol.value}"
                raise FileError(each.place, f"a second port {what}", "Give each port its own name and number.")
        ports.append(port)
        targets[port.name] = target
    return tuple(ports), targets


def _port(port: Fields, alone: bool, kind: ServiceType) -> tuple[ServicePort, int]:
    fields = only(port, _PORT, "a port")
    named = fields.get("name")
    name = _at(named.place, lambda: parse_port_name(text_of(named, "port name"))) if named is not None else ""
    if not name and not alone:
        raise FileError(port.place, "one of several ports has no name", "Give every port a name.")
    number = number_of(need(port, "port", "a port"), "port", 1, 65535)
    target = fields.get("targetPort")
    protocol = fields.get("protocol")
    transport = (
        Protocol(one_of(protocol, "protocol", [p.value for p in Protocol])) if protocol is not None else Protocol.TCP
    )
    if protocol is not None and transport is not Protocol.TCP and kind is not ServiceType.HEADLESS:
        raise FileError(
            protocol.place,
            f"a gateway cannot carry {transport.value}",
            "Use TCP, or make the service headless (clusterIP: None).",
        )
    value = ServicePort(name, number, transport, _app_protocol(fields.get("appProtocol"), name))
    return value, number_of(target, "targetPort", 1, 65535) if target is not None else number


def _app_protocol(node: Node | None, port_name: str) -> AppProtocol:
    """appProtocol decides; without it the port's name up to the first hyphen; without that plain TCP."""
    if node is not None:
        word = text_of(node, "appProtocol")
        if word.lower() in _APP_PROTOCOLS:
            return _APP_PROTOCOLS[word.lower()]
        if "/" in word:
            # Kubernetes leaves names with a domain to implementations; the ones we do not know are carried as bytes.
            return AppProtocol.TCP
        one_of(node, "appProtocol", [name for name in _APP_PROTOCOLS if "/" not in name])
    return _APP_PROTOCOLS.get(port_name.partition("-")[0], AppProtocol.TCP)


def _endpoints(node: Node, targets: Mapping[str, int], default: Locality) -> tuple[Endpoint, ...]:
    found: dict[tuple[str, tuple[tuple[str, int], ...]], Endpoint] = {}
    places: dict[tuple[str, tuple[tuple[str, int], ...]], Place] = {}
    for each in items_of(node, "endpoints"):
        endpoint = _endpoint(fields_of(each, "an endpoint"), targets, default)
        identity = (endpoint.address, tuple(sorted(endpoint.ports.items())))
        if identity in found:
            line = places[identity].line
            raise FileError(
                each.place, f"endpoint {endpoint.address} stands here and in line {line}", "Keep one of them."
            )
        found[identity], places[identity] = endpoint, each.place
    return tuple(found.values())


def _endpoint(endpoint: Fields, targets: Mapping[str, int], default: Locality) -> Endpoint:
    fields = only(endpoint, _ENDPOINT, "an endpoint")
    locality, weight = fields.get("locality"), fields.get("weight")
    hostname, overrides, ready = fields.get("hostname"), fields.get("ports"), fields.get("ready")
    return Endpoint(
        address=_address(need(endpoint, "address", "an endpoint")),
        locality=_locality(locality, default) if locality is not None else default,
        ports=_endpoint_ports(overrides, targets) if overrides is not None else targets,
        weight=number_of(weight, "weight", 1, MAX_WEIGHT) if weight is not None else 1,
        ready=flag_of(ready, "ready") if ready is not None else True,
        hostname=_hostname(hostname) if hostname is not None else "",
    )


def _address(node: Node) -> str:
    text = text_of(node, "address")
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        mend = "Write an address such as 10.0.0.7 or 2001:db8::7; names and ports do not belong here."
        raise FileError(node.place, f"address {text!r} is no IP address", mend) from error
    if address.is_unspecified or address.is_multicast:
        raise FileError(node.place, f"address {text!r} belongs to no machine", "Write the address of one machine.")
    return str(address)


def _locality(node: Node, default: Locality) -> Locality:
    """`provider/region/zone`, or a mapping whose missing parts are those of the cluster."""
    if isinstance(node, Text):
        return _at(node.place, lambda: Locality.parse(text_of(node, "locality")))
    parts = only(fields_of(node, "locality"), ("provider", "region", "zone"), "locality")
    written = {name: text_of(part, name) for name, part in parts.items()}
    provider, region = written.get("provider", default.provider), written.get("region", default.region)
    return _at(node.place, lambda: Locality.parse(f"{provider}/{region}/{written.get('zone', default.zone)}"))


def _endpoint_ports(node: Node, targets: Mapping[str, int]) -> Mapping[str, int]:
    fields = only(fields_of(node, "ports of an endpoint"), tuple(targets), "ports of an endpoint")
    return {**targets, **{name: number_of(port, f"port {name}", 1, 65535) for name, port in fields.items()}}


def _hostname(node: Node) -> str:
    text = text_of(node, "hostname")
    if not _HOSTNAME.match(text):
        raise FileError(
            node.place, f"hostname {text!r} is not a DNS label", "Use lower-case letters, digits and hyphens."
        )
    return text


def _health_check(node: Node, ports: Sequence[ServicePort]) -> HealthCheck:
    if isinstance(node, Text):
        return HealthCheck(kind=CheckKind(one_of(node, "healthCheck", [kind.value for kind in CheckKind])))
    check = fields_of(node, "healthCheck")
    fields = only(check, _CHECK, "healthCheck")
    kinds = [name for name in ("http", "tcp", "grpc", "none") if name in fields]
    if len(kinds) > 1:
        raise FileError(check.keys[kinds[1]], f"healthCheck is both {kinds[0]} and {kinds[1]}", "Keep one of them.")
    kind = kinds[0] if kinds else "tcp"
    asked = _asked(fields.get(kind), kind)
    path, host, port = asked.get("path"), asked.get("host"), asked.get("port")
    normal = HealthCheck()
    interval, timeout = fields.get("interval"), fields.get("timeout")
    bad, good = fields.get("unhealthyThreshold"), fields.get("healthyThreshold")
    return HealthCheck(
        kind=CheckKind(kind),
        path=_path(path) if path is not None else normal.path,
        host=text_of(host, "host") if host is not None else normal.host,
        port_name=_port_name(port, ports) if port is not None else normal.port_name,
        interval_ms=_milliseconds(interval, "interval") if interval is not None else normal.interval_ms,
        timeout_ms=_milliseconds(timeout, "timeout") if timeout is not None else normal.timeout_ms,
        unhealthy_threshold=number_of(bad, "unhealthyThreshold", 1, 100)
        if bad is not None
        else normal.unhealthy_threshold,
        healthy_threshold=number_of(good, "healthyThreshold", 1, 100) if good is not None else normal.healthy_threshold,
    )


def _asked(node: Node | None, kind: str) -> Mapping[str, Node]:
    """What is inside `http:`, `tcp:` or `grpc:`; nothing means all defaults."""
    allowed = {"http": ("path", "host", "port"), "tcp": ("port",), "grpc": ("host", "port"), "none": ()}[kind]
    if node is None or (isinstance(node, Text) and node.empty):
        return {}
    return only(fields_of(node, kind), allowed, f"healthCheck.{kind}")


def _path(node: Node) -> str:
    text = text_of(node, "path")
    if not text.startswith("/") or any(c.isspace() for c in text):
        raise FileError(node.place, f"path {text!r} is not the path of a URL", "Begin it with '/', without spaces.")
    return text


def _port_name(node: Node, ports: Sequence[ServicePort]) -> str:
    """A port of the service, given by name or number, as its name."""
    text = text_of(node, "port")
    for port in ports:
        if text in (port.name, str(port.port)):
            return port.name
    known = ", ".join(port.name or str(port.port) for port in ports)
    raise FileError(node.place, f"the service has no port {text!r}", f"Use one of: {known}.")


def _milliseconds(node: Node, what: str) -> int:
    text = text_of(node, what)
    match = _DURATION.match(text)
    if not match:
        raise FileError(node.place, f"{what} {text!r} is no duration", "Write a number and a unit: 100ms, 1.5s, 1m.")
    length = round(float(match[1]) * _UNITS[match[2]])
    if not 10 <= length <= 3_600_000:
        raise FileError(node.place, f"{what} {text!r} is out of range", "Use a duration from 10ms to 60m.")
    return length
