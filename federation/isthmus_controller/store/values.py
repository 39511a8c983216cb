"""The values that go into etcd and come out of it: keys with revisions, changes, conditions, operations."""

import enum

import msgspec

ETCD_OPERATIONS = 128
"""What etcd takes in one transaction unless it is told otherwise (--max-txn-ops)."""
MAX_OPERATIONS = 100
"""Operations in one transaction; etcd itself refuses more than 128 (`--max-txn-ops`)."""

MAX_TRANSACTION_BYTES = 1_000_000
"""Bytes in one transaction; etcd itself refuses more than 1.5 MiB (`--max-request-bytes`)."""


class KeyValue(msgspec.Struct, frozen=True):
    """One key as it stands at some revision."""

    key: str
    value: bytes
    mod_revision: int
    create_revision: int
    version: int = 1
    lease: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    """All keys of a prefix as they stood together at `revision`."""

    revision: int
    items: tuple[KeyValue, ...]


class Change(msgspec.Struct, frozen=True):
    """One key that was written, or deleted when `value` is None; `create_revision` of a deleted key is 0."""

    key: str
    value: bytes | None
    mod_revision: int
    create_revision: int = 0


class Revision(msgspec.Struct, frozen=True):
    """All changes that one etcd revision made to a prefix, in etcd's order."""

    revision: int
    changes: tuple[Change, ...]


class Progress(msgspec.Struct, frozen=True):
    """Word from etcd that a watch has delivered everything up to `revision`."""

    revision: int


class Field(enum.Enum):
    """What of a key is compared."""

    MOD_REVISION = "mod revision"
    CREATE_REVISION = "create revision"
    VERSION = "version"
    VALUE = "value"


class Relation(enum.Enum):
    """How it is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    LESS = "<"


class Compare(msgspec.Struct, frozen=True):
    """One condition of a transaction."""

    key: str
    field: Field
    relation: Relation
    operand: int | bytes


def absent(key: str) -> Compare:
    """The key does not exist."""
    return Compare(key, Field.CREATE_REVISION, Relation.EQUAL, 0)


def present(key: str) -> Compare:
    """The key exists."""
    return Compare(key, Field.CREATE_REVISION, Relation.GREATER, 0)


def unchanged(key: str, mod_revision: int) -> Compare:
    """The key was last written at `mod_revision`; 0 means that it does not exist."""
    return Compare(key, Field.MOD_REVISION, Relation.EQUAL, mod_revision)


def created_at(key: str, create_revision: int) -> Compare:
    """The key exists since `create_revision` without a gap: the condition that fences an election."""
    return Compare(key, Field.CREATE_REVISION, Relation.EQUAL, create_revision)


def holds(key: str, value: bytes) -> Compare:
    """The key has exactly this value."""
    return Compare(key, Field.VALUE, Relation.EQUAL, value)


class Put(msgspec.Struct, frozen=True):
    """Write one key, attached to a lease unless `lease` is 0."""

    key: str
    value: bytes
    lease: int = 0


class Delete(msgspec.Struct, frozen=True):
    """Delete one key, or with `prefix` every key that begins with it."""

    key: str
    prefix: bool = False


class Get(msgspec.Struct, frozen=True):
    """Read one key, or with `prefix` every key that begins with it, inside a transaction."""

    key: str
    prefix: bool = False


Operation = Put | Delete | Get
Write = Put | Delete


class TxnResult(msgspec.Struct, frozen=True):
    """What a transaction did: which branch ran, at which revision, and what each `Get` of it read (by position)."""

    succeeded: bool
    revision: int
    reads: tuple[tuple[KeyValue, ...], ...]


class Written(msgspec.Struct, frozen=True):
    """What a series of guarded transactions did: `done` of the operations, the last of them at `revision`."""

    succeeded: bool
    revision: int
    done: int


class MemberStatus(msgspec.Struct, frozen=True):
    """What one member of etcd says about itself."""

    address: str
    version: str
    cluster_id: int
    member_id: int
    leader_id: int
    revision: int
    size_bytes: int
    errors: tuple[str, ...]


class Alarm(msgspec.Struct, frozen=True):
    """An alarm that a member of etcd raised; `kind` is NOSPACE or CORRUPT."""

    member_id: int
    kind: str
