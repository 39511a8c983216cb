"""Turn the documents of a file into services and exports; whatever cannot be used is an error with its place."""

import datetime
import ipaddress
import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from isthmus_core.dns_mode import ANNOTATION, DnsMode
from isthmus_core.model import (
    Endpoint,
    ExportSpec,
    HealthCheck,
    LocalService,
    ServiceType,
)
from isthmus_core.names import Locality, ServiceName
from isthmus_gateway.sources.checks import read_check
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
    placed,
    read_documents,
    text_of,
    texts_of,
)
from isthmus_gateway.sources.ports import read_ports

SERVICE_VERSIONS = ("isthmus.dev/v1alpha1", "federation.isthmus.dev/v1alpha1")
EXPORT_VERSIONS = ("multicluster.x-k8s.io/v1alpha1", "multicluster.x-k8s.io/v1beta1")
MAX_WEIGHT = 1_000_000

_METADATA = ("name", "namespace", "labels", "annotations", "creationTimestamp")
_SPEC = ("type", "clusterIP", "ports", "endpoints", "healthCheck", "sessionAffinity")
_ENDPOINT = ("address", "locality", "weight", "hostname", "ports", "ready")
_TYPES = ("ClusterIP", "ClusterSetIP", "Headless", "NodePort", "LoadBalancer")
_KUBERNETES_ONLY = {
    "selector": "A file describes machines, not pods: list them under 'endpoints'.",
    "externalName": "An ExternalName service cannot be exported: list its addresses under 'endpoints'.",
}

_HOSTNAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")


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


def parse_file(file: str, content: bytes, default: Locality) -> FileContent:
    """What a file says; `default` is the locality of endpoints that name none. Raises FileError."""
    services: dict[ServiceName, Described] = {}
    exports: dict[ServiceName, DescribedExport] = {}
    for node in read_documents(file, content):
        document = fields_of(node, "a document")
        kind = one_of(need(document, "kind", "a document"), "kind", ("Service", "ServiceExport"))
        fields = only(document, ("apiVersion", "kind", "metadata", "spec", "status"), f"a {kind}")
        versions = SERVICE_VERSIONS if kind == "Service" else EXPORT_VERSIONS
        one_of(need(document, "apiVersion", f"a {kind}"), f"a {kind}'s apiVersion", versions)
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


def _metadata(node: Node, kind: str) -> tuple[ServiceName, int]:
    """The name and the creation time in milliseconds (0: none given)."""
    metadata = fields_of(node, "metadata")
    fields = only(metadata, _METADATA, f"metadata of a {kind}")
    name = need(metadata, "name", f"metadata of a {kind}")
    namespace = fields.get("namespace")
    # Kubernetes' default namespace is the one without a name of its own.
    space = text_of(namespace, "namespace") if namespace is not None else "default"
    service = placed(name.place, lambda: ServiceName.of(space, text_of(name, "name")))
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
        annotations=_annotations(annotations) if annotations is not None else {},
        exported_at_ms=created_ms,
    )


def _annotations(node: Node) -> Mapping[str, str]:
    """Exported annotations; a word that we look at ourselves must be one that we know."""
    found = texts_of(node, "exportedAnnotations")
    if ANNOTATION in found:
        mode = fields_of(node, "exportedAnnotations").fields[ANNOTATION]
        one_of(mode, f"annotation {ANNOTATION}", [known.value for known in DnsMode])
    return found


def _service(name: ServiceName, spec: Fields, default: Locality) -> LocalService:
    fields = only(spec, _SPEC, "spec of a Service", _KUBERNETES_ONLY)
    kind = _type(fields)
    ports, targets = read_ports(need(spec, "ports", "spec of a Service"), kind)
    affinity = fields.get("sessionAffinity")
    endpoints = fields.get("endpoints")
    check = fields.get("healthCheck")
    return LocalService(
        service=name,
        type=kind,
        ports=ports,
        endpoints=_endpoints(endpoints, targets, default) if endpoints is not None else (),
        health_check=read_check(check, ports) if check is not None else HealthCheck(),
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
    if "%" in text:
        mend = "Write an address that means the same on every link, without '%'."
        raise FileError(node.place, f"address {text!r} holds only on one link", mend)
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        raise FileError(node.place, f"address {text!r} belongs to no machine", "Write the address of one machine.")
    return str(address)


def _locality(node: Node, default: Locality) -> Locality:
    """`provider/region/zone`, or a mapping whose missing parts are those of the cluster."""
    if isinstance(node, Text):
        return placed(node.place, lambda: Locality.parse(text_of(node, "locality")))
    parts = only(fields_of(node, "locality"), ("provider", "region", "zone"), "locality")
    written = {name: text_of(part, name) for name, part in parts.items()}
    provider, region = written.get("provider", default.provider), written.get("region", default.region)
    return placed(node.place, lambda: Locality.parse(f"{provider}/{region}/{written.get('zone', default.zone)}"))


def _endpoint_ports(node: Node, targets: Mapping[str, int]) -> Mapping[str, int]:
    if not any(targets):
        raise FileError(node.place, "the service's port has no name to be meant here", "Give it one: 'name: http'.")
    fields = only(fields_of(node, "ports of an endpoint"), tuple(targets), "ports of an endpoint")
    return {**targets, **{name: number_of(port, f"port {name}", 1, 65535) for name, port in fields.items()}}


def _hostname(node: Node) -> str:
    text = text_of(node, "hostname")
    if not _HOSTNAME.match(text):
        raise FileError(
            node.place, f"hostname {text!r} is not a DNS label", "Use lower-case letters, digits and hyphens."
        )
    return text
