"""Keep what a prefix holds, and find what must change so that it equals a snapshot. Pure."""

import enum
from collections.abc import Iterable, Mapping

import msgspec

from isthmus_controller.store.values import Change, KeyValue


class Origin(enum.Enum):
    """Why a batch of changes was delivered."""

    WATCH = "watch"
    READ = "read"
    REPAIR = "repair"


class Batch(msgspec.Struct, frozen=True):
    """Changes that belong together: of one etcd revision, or all that a read at `revision` brought."""

    revision: int
    changes: tuple[Change, ...]
    origin: Origin


class Held(msgspec.Struct, frozen=True):
    """What a replica knows of one key."""

    value: bytes
    mod_revision: int
    create_revision: int


def differences(held: Mapping[str, Held], wanted: Iterable[KeyValue], revision: int) -> tuple[Change, ...]:
    """The changes that turn `held` into `wanted`, deletions first: names that vanished are never kept."""
    target = {item.key: item for item in wanted}
    deleted = [Change(key, None, revision) for key in held if key not in target]
    written = [
        Change(item.key, item.value, item.mod_revision, item.create_revision)
        for item in target.values()
        if held.get(item.key) != Held(item.value, item.mod_revision, item.create_revision)
    ]
    # In etcd's own order, as a watch would have brought them.
    written.sort(key=lambda change: change.mod_revision)
    return (*deleted, *written)


def apply(held: dict[str, Held], changes: Iterable[Change]) -> None:
    """Make `changes` in `held`."""
    for change in changes:
        if change.value is None:
            held.pop(change.key, None)
        else:
            held[change.key] = Held(change.value, change.mod_revision, change.create_revision)
