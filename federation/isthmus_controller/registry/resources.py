"""Make the resources that gateways are told from the records of the registry."""

from collections.abc import Iterable, Mapping

import msgspec

from isthmus_controller.registry.records import Session, encode
from isthmus_core.merge import Merged
from isthmus_core.model import Cluster, Condition, Gateway, Import
from isthmus_core.names import ServiceName
from isthmus_sync import codec


def joined_cluster(cluster: Cluster, gateways: Mapping[str, Gateway], sessions: Mapping[str, Session]) -> Cluster:
    """A cluster with its gateways and its session.

    Held while one gateway is connected; else lost, and everything else that was known stays (DESIGN section 9).
    """
    held = [session.since_ms for session in sessions.values() if session.held]
    lost = [session.since_ms for session in sessions.values() if not session.held]
    return msgspec.structs.replace(
        cluster,
        gateways=tuple(gateways[name] for name in sorted(gateways)),
        session_held=bool(held),
        session_since_ms=min(held) if held else max(lost, default=0),
    )


def cluster_body(cluster: Cluster) -> bytes:
    """A CLUSTER resource."""
    return encode(codec.cluster_message(cluster))


def import_body(imported: Import) -> bytes:
    """An IMPORT resource."""
    return encode(codec.import_message(imported))


def status_body(service: ServiceName, conditions: Iterable[Condition]) -> bytes:
    """An EXPORT_STATUS resource."""
    return encode(codec.status_message(service, conditions))


def conditions(merged: Merged) -> tuple[Condition, ...]:
    """The conditions of an export that takes part in its service (KEP-1645, "Status"); capacity plays no part."""
    return (
        Condition("Valid", True, "Valid", "the service can be exported"),
        Condition("Ready", True, "Exported", "every member of the federation is told of this export"),
        merged.condition(),
    )


def unreadable(reason: str) -> tuple[Condition, ...]:
    """The conditions of an export whose record in the registry cannot be read."""
    return (
        Condition("Valid", True, "Valid", "the service was accepted when it was exported"),
        Condition("Ready", False, "Failed", f"the registry's record cannot be used: {reason}"),
    )
