"""Merge what several clusters export under one name: the oldest wins, ports are a union, conflicts are values.

KEP-1645, "Conflict resolution policy".
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from isthmus_core.model import Condition, Export, Exporter, Import, ServicePort


class Conflict(msgspec.Struct, frozen=True):
    """One property on which the exports of a service disagree."""

    reason: str
    message: str


class Merged(msgspec.Struct, frozen=True):
    """An import and what its exporters disagree about (the same for all of them)."""

    service: Import
    conflicts: tuple[Conflict, ...]

    def condition(self) -> Condition:
        """The `Conflict` condition, which stands on every export of the service."""
        if not self.conflicts:
            return Condition("Conflict", False, "NoConflicts", "all exports of this service agree")
        return Condition(
            "Conflict", True, ",".join(c.reason for c in self.conflicts), "; ".join(c.message for c in self.conflicts)
        )


def age(export: Export) -> tuple[int, str]:
    """Sort key, oldest first: the registry's revision of the first export, which nobody can back-date."""
    return (export.first_revision, export.cluster)


def merge(exports: Iterable[Export]) -> Merged:
    """All exports of one service as one import; raises ValueError for none."""
    ordered = sorted(exports, key=age)
    if not ordered:
        raise ValueError("a merge needs at least one export")
    oldest = ordered[0]
    ports, port_conflicts = _merge_ports(ordered)
    conflicts = [*port_conflicts]
    for reason, what, read in _OLDEST_WINS:
        losers = [e.cluster for e in ordered[1:] if read(e) != read(oldest)]
        if losers:
            conflicts.append(Conflict(reason, f"{what} of {oldest.cluster} is used; {', '.join(losers)} differs"))
    service = Import(
        service=oldest.service,
        type=oldest.type,
        ports=ports,
        exporters=tuple(Exporter(e.cluster, _served(ports, e)) for e in ordered),
        session_affinity=oldest.session_affinity,
        labels=oldest.labels,
        annotations=oldest.annotations,
    )
    return Merged(service, tuple(conflicts))


_OLDEST_WINS: tuple[tuple[str, str, Callable[[Export], object]], ...] = (
    ("TypeConflict", "the type", lambda e: e.type),
    ("SessionAffinityConflict", "the session affinity", lambda e: e.session_affinity),
    ("AnnotationsConflict", "the set of exported annotations", lambda e: dict(e.annotations)),
    ("LabelsConflict", "the set of exported labels", lambda e: dict(e.labels)),
)


def _merge_ports(ordered: Sequence[Export]) -> tuple[tuple[ServicePort, ...], list[Conflict]]:
    """The union of ports, by name and then by (protocol, port); the oldest definition of each stays."""
    union: list[ServicePort] = []
    owner: dict[ServicePort, str] = {}
    messages: list[str] = []
    for export in ordered:
        for port in export.ports:
            rival = _rival(union, port)
            if rival is None:
                union.append(port)
                owner[port] = export.cluster
            elif rival != port:
                messages.append(_rivalry(rival, owner[rival], port, export.cluster))
    for export in ordered:
        missing = [p for p in union if _rival(export.ports, p) is None]
        if missing:
            messages.append(f"{export.cluster} does not serve port {', '.join(_shown(p) for p in missing)}")
    conflicts = [Conflict("PortConflict", "; ".join(messages))] if messages else []
    return tuple(union), conflicts


def _rival(ports: Iterable[ServicePort], port: ServicePort) -> ServicePort | None:
    """The port that claims the same name, or the same (protocol, number), as `port`."""
    for other in ports:
        if other.name == port.name or (other.protocol, other.port) == (port.protocol, port.port):
            return other
    return None


def _rivalry(used: ServicePort, owner: str, other: ServicePort, cluster: str) -> str:
    """Whose definition of a port is used, and what the other one says instead."""
    shown, instead = _shown(used), _shown(other)
    if shown == instead:
        shown = f"{shown} (appProtocol {used.app_protocol.value})"
        instead = f"appProtocol {other.app_protocol.value}"
    return f"port {shown} of {owner} is used; {cluster} has {instead} instead"


def _served(union: Sequence[ServicePort], export: Export) -> tuple[str, ...]:
    """Traffic goes only to endpoints whose service really exposes the port."""
    return tuple(
        p.name for p in union if any((o.name, o.port, o.protocol) == (p.name, p.port, p.protocol) for o in export.ports)
    )


def _shown(port: ServicePort) -> str:
    name = f"{port.name}:" if port.name else ""
    return f"{name}{port.port}/{port.protocol.value}"
