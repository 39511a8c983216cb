"""Read the ports of a service, and what is spoken inside each."""

from isthmus_core.model import AppProtocol, Protocol, ServicePort, ServiceType
from isthmus_core.names import parse_port_name
from isthmus_gateway.sources.documents import (
    Fields,
    FileError,
    Node,
    fields_of,
    items_of,
    need,
    number_of,
    one_of,
    only,
    placed,
    text_of,
)

_PORT = ("name", "port", "targetPort", "protocol", "appProtocol")

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


def read_ports(node: Node, kind: ServiceType) -> tuple[tuple[ServicePort, ...], dict[str, int]]:
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
    name = placed(named.place, lambda: parse_port_name(text_of(named, "port name"))) if named is not None else ""
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
