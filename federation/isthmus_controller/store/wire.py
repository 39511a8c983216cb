"""Turn our values into etcd's messages and back; knows no connection."""

from collections.abc import Iterable

from aetcd import rpc

from isthmus_controller.store.values import (
    Change,
    Compare,
    Delete,
    Field,
    Get,
    KeyValue,
    Operation,
    Put,
    Relation,
    Revision,
    TxnResult,
)

_RELATION = {
    Relation.EQUAL: rpc.Compare.EQUAL,
    Relation.NOT_EQUAL: rpc.Compare.NOT_EQUAL,
    Relation.GREATER: rpc.Compare.GREATER,
    Relation.LESS: rpc.Compare.LESS,
}


def key_bytes(key: str) -> bytes:
    """A key as etcd keeps it."""
    return key.encode("utf-8", "surrogateescape")


def key_text(key: bytes) -> str:
    """A key as we keep it; foreign bytes survive the round trip."""
    return key.decode("utf-8", "surrogateescape")


def end_of(prefix: str) -> bytes:
    """The first key that no longer begins with `prefix` (etcd API, "range_end"); b"\\0" stands for every key."""
    stem = key_bytes(prefix).rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def key_value(message: rpc.KeyValue) -> KeyValue:
    """A key as it came from etcd."""
    return KeyValue(
        key_text(message.key),
        message.value,
        message.mod_revision,
        message.create_revision,
        message.version,
        message.lease,
    )


def compare_message(compare: Compare) -> rpc.Compare:
    """A condition as etcd's message."""
    message = rpc.Compare(key=key_bytes(compare.key), result=_RELATION[compare.relation])
    if isinstance(compare.operand, bytes):
        if compare.field is not Field.VALUE:
            raise TypeError(f"a {compare.field.value} is compared with a number")
        message.target = rpc.Compare.VALUE
        message.value = compare.operand
    elif compare.field is Field.MOD_REVISION:
        message.target = rpc.Compare.MOD
        message.mod_revision = compare.operand
    elif compare.field is Field.CREATE_REVISION:
        message.target = rpc.Compare.CREATE
        message.create_revision = compare.operand
    elif compare.field is Field.VERSION:
        message.target = rpc.Compare.VERSION
        message.version = compare.operand
    else:
        raise TypeError("a value is compared with bytes")
    return message


def operation_message(operation: Operation) -> rpc.RequestOp:
    """An operation as etcd's message."""
    key = key_bytes(operation.key)
    if isinstance(operation, Put):
        return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=operation.value, lease=operation.lease))
    end = end_of(operation.key) if operation.prefix else b""
    if isinstance(operation, Delete):
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end))
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, range_end=end))


def txn_message(when: Iterable[Compare], then: Iterable[Operation], otherwise: Iterable[Operation]) -> rpc.TxnRequest:
    """A whole transaction as etcd's message."""
    return rpc.TxnRequest(
        compare=[compare_message(compare) for compare in when],
        success=[operation_message(operation) for operation in then],
        failure=[operation_message(operation) for operation in otherwise],
    )


def txn_result(message: rpc.TxnResponse) -> TxnResult:
    """What a transaction did; operations that read nothing have an empty place in `reads`."""
    reads = tuple(tuple(key_value(kv) for kv in response.response_range.kvs) for response in message.responses)
    return TxnResult(message.succeeded, message.header.revision, reads)


def change(event: rpc.Event) -> Change:
    """A watch event as a change."""
    kv = event.kv
    if event.type == rpc.Event.DELETE:
        return Change(key_text(kv.key), None, kv.mod_revision)
    return Change(key_text(kv.key), kv.value, kv.mod_revision, kv.create_revision)


def by_revision(events: Iterable[rpc.Event]) -> list[Revision]:
    """Events in etcd's order, one group for each revision (a transaction is one revision)."""
    groups: list[tuple[int, list[Change]]] = []
    for event in events:
        revision = event.kv.mod_revision
        if not groups or groups[-1][0] != revision:
            groups.append((revision, []))
        groups[-1][1].append(change(event))
    return [Revision(revision, tuple(changes)) for revision, changes in groups]


def is_write(operation: Operation) -> bool:
    """Whether the operation changes anything."""
    return not isinstance(operation, Get)
