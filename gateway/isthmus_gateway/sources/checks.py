"""Read how the endpoints of a service are asked whether they are alive."""

import re
from collections.abc import Mapping, Sequence

from isthmus_core.model import CheckKind, HealthCheck, ServicePort
from isthmus_gateway.sources.documents import (
    FileError,
    Node,
    Text,
    fields_of,
    number_of,
    one_of,
    only,
    text_of,
)

_CHECK = ("http", "tcp", "grpc", "none", "interval", "timeout", "unhealthyThreshold", "healthyThreshold")
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|m)\Z")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000}


def read_check(node: Node, ports: Sequence[ServicePort]) -> HealthCheck:
    """The `healthCheck` of a service that has these ports: a word or a mapping; raises FileError with the place."""
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
        host=_host(host) if host is not None else normal.host,
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
    if not text.startswith("/") or not _is_header(text):
        mend = "Begin it with '/', and write spaces and letters outside ASCII as %20 and the like."
        raise FileError(node.place, f"path {text!r} is not the path of a URL", mend)
    return text


def _host(node: Node) -> str:
    text = text_of(node, "host")
    if not _is_header(text):
        raise FileError(node.place, f"host {text!r} is not the name of a host", "Write it like echo.example.com.")
    return text


def _is_header(text: str) -> bool:
    """Envoy refuses a whole cluster for a control character in it."""
    return text.isascii() and text.isprintable() and " " not in text


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
