"""What a replica says of itself while it waits to lead: the list of candidates is the list of replicas."""

from collections.abc import Iterable, Mapping

import msgspec

from isthmus_controller.store import Held

WORK = "housekeeping"
"""The one election of the controllers."""


class Candidate(msgspec.Struct, frozen=True):
    """One controller replica."""

    id: str
    grpc: str
    admin: str
    version: str
    started_at_ms: int
    place: str = ""
    """The host and where it listens there, which only one process can; empty: not told."""

    def text(self) -> str:
        """The value of its key in the election."""
        return msgspec.json.encode(self).decode()


def candidates(held: Mapping[str, Held]) -> list[Candidate]:
    """All replicas that are alive, the leader (who came first) at the head."""
    first = sorted(held.values(), key=lambda h: h.create_revision)
    return [candidate for value in first for candidate in _read(value.value)]


def _read(value: bytes) -> Iterable[Candidate]:
    try:
        return (msgspec.json.decode(value, type=Candidate),)
    except msgspec.MsgspecError:
        return ()  # a release that describes itself in other words is still a candidate, but not shown
