"""Read one key and its value from etcd as a value of the model, or say why it cannot be read."""

import enum
from collections.abc import Callable
from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from isthmus_core.errors import InvalidInput
from isthmus_core.model import Capacity, Cluster, Export, Gateway
from isthmus_core.names import ClusterId, ServiceName, parse_cluster_id
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb


class Kind(enum.Enum):
    """The folders of etcd that the registry reads (DESIGN section 6); it passes over all others."""

    CLUSTER = "clusters"
    GATEWAY = "gateways"
    SESSION = "sessions"
    ABSENCE = "absences"
    EXPORT = "exports"
    CAPACITY = "endpoints"


class Path(msgspec.Struct, frozen=True):
    """A key of the registry, taken apart: whose it is, and of which service or gateway it speaks."""

    kind: Kind
    cluster: ClusterId
    gateway: str = ""
    service: ServiceName | None = None

    def __str__(self) -> str:
        if self.service is not None:
            return f"{self.kind.value}/{self.service}/{self.cluster}"
        return f"{self.kind.value}/{self.cluster}" + (f"/{self.gateway}" if self.gateway else "")


class Stored(msgspec.Struct, frozen=True):
    """A value as etcd holds it, with the revisions that etcd gave it."""

    value: bytes
    create_revision: int
    mod_revision: int


class Session(msgspec.Struct, frozen=True):
    """That a gateway is connected, or (as an absence) that a cluster is not, and since when."""

    since_ms: int


_M = TypeVar("_M", pb.Cluster, pb.Gateway, pb.Export, pb.Capacity)
_R = TypeVar("_R")
Record = Cluster | Gateway | Session | Export | Capacity

_PARTS = {Kind.CLUSTER: 1, Kind.ABSENCE: 1, Kind.GATEWAY: 2, Kind.SESSION: 2, Kind.EXPORT: 3, Kind.CAPACITY: 3}
_KINDS = {kind.value: kind for kind in Kind}


def parse_path(key: str) -> Path | None:
    """A key below the federation's prefix, taken apart; None for folders of others; raises InvalidInput."""
    folder, _, rest = key.partition("/")
    kind = _KINDS.get(folder)
    if kind is None:
        return None
    parts = rest.split("/")
    if len(parts) != _PARTS[kind] or not all(parts):
        raise InvalidInput(f"key {key!r} does not have the {_PARTS[kind]} parts of {folder}/")
    if kind in (Kind.EXPORT, Kind.CAPACITY):
        return Path(kind, parse_cluster_id(parts[2]), service=ServiceName.of(parts[0], parts[1]))
    return Path(kind, parse_cluster_id(parts[0]), gateway=parts[1] if len(parts) == 2 else "")


def read(path: Path, stored: Stored) -> Record:
    """The value at `path`; raises InvalidInput when this release cannot read it."""
    try:
        return _READERS[path.kind](path, stored)
    except (DecodeError, KeyError, ValueError) as error:
        raise InvalidInput(f"the value is no {path.kind.name.lower()}: {str(error) or type(error).__name__}") from None


def _cluster(path: Path, stored: Stored) -> Cluster:
    cluster = codec.cluster_value(_decoded(pb.Cluster(), stored.value))
    return _agreeing(path, cluster, (cluster.id,))


def _gateway(path: Path, stored: Stored) -> Gateway:
    gateway = codec.gateway_value(_decoded(pb.Gateway(), stored.value))
    return _agreeing(path, gateway, (gateway.cluster, gateway.id))


def _session(path: Path, stored: Stored) -> Session:
    message = pb.Session()
    message.ParseFromString(stored.value)
    return Session(message.since_ms)


def _export(path: Path, stored: Stored) -> Export:
    export = codec.export_value(_decoded(pb.Export(), stored.value))
    # The age that decides conflicts is etcd's own revision of the first export: nobody can back-date it (KEP-1645).
    export = msgspec.structs.replace(export, first_revision=stored.create_revision)
    return _agreeing(path, export, (export.service, export.cluster))


def _capacity(path: Path, stored: Stored) -> Capacity:
    capacity = codec.capacity_value(_decoded(pb.Capacity(), stored.value))
    return _agreeing(path, capacity, (capacity.service, capacity.cluster))


_READERS: dict[Kind, Callable[[Path, Stored], Record]] = {
    Kind.CLUSTER: _cluster,
    Kind.GATEWAY: _gateway,
    Kind.SESSION: _session,
    Kind.ABSENCE: _session,
    Kind.EXPORT: _export,
    Kind.CAPACITY: _capacity,
}


def _decoded(message: _M, value: bytes) -> _M:
    message.ParseFromString(value)
    check_schema(message.schema)
    return message


def check_schema(schema: int) -> None:
    """Raise InvalidInput for a value that a newer release wrote."""
    if schema > codec.SCHEMA:
        raise InvalidInput(
            f"it has schema {schema} and this release reads up to {codec.SCHEMA}", "Upgrade every controller replica."
        )


def _agreeing(path: Path, record: _R, says: tuple[object, ...]) -> _R:
    """The record, when it names the same things as its key."""
    if says not in ((path.cluster,), (path.cluster, path.gateway), (path.service, path.cluster)):
        raise InvalidInput(f"the value speaks of {'/'.join(str(part) for part in says)}, not of {path}")
    return record


def encode(message: Message) -> bytes:
    """The same bytes for the same message on every replica (maps are sorted)."""
    return message.SerializeToString(deterministic=True)
