"""Read one key's value from etcd as a value of the model, or say why it cannot be read."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from isthmus_controller.store.keys import ClusterKey, EndpointsKey, ExportKey, GatewayKey, SessionKey
from isthmus_controller.store.replica import Held
from isthmus_core.errors import InvalidInput
from isthmus_core.model import Capacity, Cluster, Export, Gateway
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb


class Session(msgspec.Struct, frozen=True):
    """Whether a gateway is connected to a controller, and since when.

    Held sessions are leased. When a lease has run out, the leading replica leaves a session that is not held in its
    place, so that every replica tells the same time of loss.
    """

    held: bool
    since_ms: int
    lacks: str = ""
    """Which of the cluster's exports the gateway did not have when it connected (`exports.siblings`); none if empty."""


RecordKey = ClusterKey | GatewayKey | SessionKey | ExportKey | EndpointsKey
"""The keys that the registry reads; it passes over all others."""

Record = Cluster | Gateway | Session | Export | Capacity

_M = TypeVar("_M", pb.Cluster, pb.Gateway, pb.Export, pb.Capacity)


def read(key: RecordKey, held: Held) -> Record:
    """The value at `key`; raises InvalidInput when this release cannot read it."""
    try:
        return _READERS[type(key)](key, held)
    except (DecodeError, KeyError, ValueError) as error:
        raise InvalidInput(f"the value is no {_word(key)}: {str(error) or type(error).__name__}") from None


def _cluster(key: RecordKey, held: Held) -> Cluster:
    cluster = codec.cluster_value(_decoded(pb.Cluster(), held.value))
    _agree(key, ClusterKey(cluster.id))
    return cluster


def _gateway(key: RecordKey, held: Held) -> Gateway:
    gateway = codec.gateway_value(_decoded(pb.Gateway(), held.value))
    _agree(key, GatewayKey(gateway.cluster, gateway.id))
    return gateway


def _session(_: RecordKey, held: Held) -> Session:
    message = pb.Session()
    message.ParseFromString(held.value)
    return Session(message.held, message.since_ms, message.lacks)


def _export(key: RecordKey, held: Held) -> Export:
    export = codec.export_value(_decoded(pb.Export(), held.value))
    _agree(key, ExportKey(export.service, export.cluster))
    # The age that decides conflicts is etcd's own revision of the first export: nobody can back-date it (KEP-1645).
    return msgspec.structs.replace(export, first_revision=held.create_revision)


def _capacity(key: RecordKey, held: Held) -> Capacity:
    capacity = codec.capacity_value(_decoded(pb.Capacity(), held.value))
    _agree(key, EndpointsKey(capacity.service, capacity.cluster))
    return capacity


_READERS: dict[type[RecordKey], Callable[[RecordKey, Held], Record]] = {
    ClusterKey: _cluster,
    GatewayKey: _gateway,
    SessionKey: _session,
    ExportKey: _export,
    EndpointsKey: _capacity,
}


def _decoded(message: _M, value: bytes) -> _M:
    message.ParseFromString(value)
    check_schema(message.schema)
    return message


def check_schema(schema: int) -> None:
    """Raise InvalidInput for a value that a newer release wrote, or that says nothing of its schema."""
    if schema > codec.SCHEMA:
        raise InvalidInput(
            f"it has schema {schema} and this release reads up to {codec.SCHEMA}", "Update every controller replica."
        )
    if not schema:
        raise InvalidInput("it carries no schema version")


def _agree(key: RecordKey, says: RecordKey) -> None:
    if says != key:
        raise InvalidInput(f"the value is that of another {_word(key)}: {says}")


def _word(key: RecordKey) -> str:
    return type(key).__name__.removesuffix("Key").lower()


def encode(message: Message) -> bytes:
    """The same bytes for the same message on every replica (maps are sorted)."""
    return message.SerializeToString(deterministic=True)
