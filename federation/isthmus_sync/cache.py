"""Keep the newest state of every resource of one type, and what changed since any moment."""

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_sync.wire import frame_resource

BODY_LIMIT = 32 * 1024 * 1024
"""Bytes of one resource; peers take messages of 64 MiB."""
_FORGET_ABOVE = 1024
"""Removed names remembered at least; beyond that as many as there are live resources."""
_ROLL_AGE = 128
"""Changes after which the list of all names is made anew at least; beyond that an eighth of them."""


class Resource(msgspec.Struct, frozen=True):
    """One resource, serialised once: every stream joins `framed` into its responses."""

    name: str
    version: str
    framed: bytes
    size: int

    @property
    def body(self) -> bytes:
        """The serialised message itself, without name, version and type."""
        return self.framed[len(self.framed) - self.size :]


def version_of(body: bytes) -> str:
    """The version that these bytes have on every replica and after every restart."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


class ResourceCache:
    """The published resources of one type.

    Until `mark_synced` nobody is answered from it: a publisher that has not read its own sources yet must never look
    like one whose sources are empty.
    """

    def __init__(self, type_url: str, *, roll_age: int = _ROLL_AGE) -> None:
        self.type_url = type_url
        self._roll_age = roll_age
        self.generation = 0
        self.synced = False
        self._live: dict[str, Resource] = {}
        # Name -> generation of its last change, oldest first, because a changed name is put to the end again.
        self._changes: dict[str, int] = {}
        self._forgotten = 0  # changes up to this generation may be missing from `_changes`
        self._roll: tuple[Sequence[str], int] = ((), 0)

    def put(self, name: str, body: bytes, version: str | None = None) -> bool:
        """Publish `body` as `name`; False when it is there already. Equal bytes must mean equal versions.

        The default version is a hash of the bytes: equal on every replica and after every restart.
        """
        if not name or name == "*":
            raise ValueError(f"{name!r} is no resource name")
        if len(body) > BODY_LIMIT:
            raise InvalidInput(f"the resource {name!r} has {len(body)} bytes; {BODY_LIMIT} fit one message")
        if version is None:
            version = version_of(body)
        elif not version:
            raise ValueError("a version is never empty")
        present = self._live.get(name)
        if present is not None and present.version == version:
            return False
        framed = frame_resource(self.type_url, name, version, body)
        self._live[name] = Resource(name, version, framed, len(body))
        self._note(name)
        return True

    def remove(self, name: str) -> bool:
        """Withdraw `name`; False when it was not there."""
        if self._live.pop(name, None) is None:
            return False
        self._note(name)
        self._forget()
        return True

    def mark_synced(self) -> None:
        """From now on the cache is the truth, also where it is empty."""
        if not self.synced:
            self.synced = True
            self.generation += 1

    def get(self, name: str) -> Resource | None:
        """The resource called `name`, or None."""
        return self._live.get(name)

    def names(self) -> set[str]:
        """All published names."""
        return set(self._live)

    def __contains__(self, name: str) -> bool:
        return name in self._live

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._live.values())

    def __len__(self) -> int:
        return len(self._live)

    def changed_since(self, generation: int) -> list[str] | None:
        """Names that were put or removed after `generation`, oldest change first, in O(changes).

        None when that is too long ago to be known: then compare everything.
        """
        if generation < self._forgotten:
            return None
        changed: list[str] = []
        for name, at in reversed(self._changes.items()):
            if at <= generation:
                break
            changed.append(name)
        changed.reverse()
        return changed

    def roll(self) -> tuple[Sequence[str], int]:
        """The names of all live resources at a generation not long ago, and which: one list for all who walk it now."""
        names, generation = self._roll
        changed = self.changed_since(generation)
        if changed is None or len(changed) > max(self._roll_age, len(names) // 8):
            self._roll = tuple(self._live), self.generation
        return self._roll

    def _note(self, name: str) -> None:
        self.generation += 1
        self._changes.pop(name, None)
        self._changes[name] = self.generation

    def _forget(self) -> None:
        """Keep the memory of removed names in proportion to what is live; a slow stream then compares everything."""
        if len(self._changes) - len(self._live) <= max(_FORGET_ABOVE, len(self._live)):
            return
        removed = [(name, at) for name, at in self._changes.items() if name not in self._live]
        for name, at in removed[: len(removed) // 2]:
            del self._changes[name]
            self._forgotten = at
