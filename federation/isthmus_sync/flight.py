"""What one response carried that the peer has not answered yet, and what its answer refuses."""

from collections import deque
from collections.abc import Iterable, Mapping

import msgspec
from google.protobuf.message import DecodeError

from isthmus_sync.cache import Resource, ResourceCache
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.wire import Request


class InFlight(msgspec.Struct, frozen=True):
    """A response that is not answered yet."""

    nonce: str
    sent: Mapping[str, str]  # name -> version
    before: Mapping[str, str]  # name -> version that the peer held before, "" for none
    removed: tuple[str, ...]
    since: int  # the round of its oldest change
    at: float  # when it was sent


class Suspects(msgspec.Struct, frozen=True):
    """Resources that were refused together without a word which of them is bad."""

    versions: Mapping[str, str]
    since: int


def reasons_of(request: Request, flight: InFlight) -> dict[str, str]:
    """The refused resources of a NACK that names them: one ResourceError each in the details of its status."""
    reasons: dict[str, str] = {}
    for detail in request.error_detail.details:
        error = pb.ResourceError()
        # Another kind of detail unpacks to nothing, a broken one raises: both count as a NACK without names.
        if detail.TypeName() != error.DESCRIPTOR.full_name:
            continue
        try:
            error.ParseFromString(detail.value)
        except DecodeError:
            continue
        if error.name in flight.sent or error.name in flight.removed:
            reasons[error.name] = error.reason
    return reasons


class Refusals:
    """What the peer has refused: resources it named, and those that were in one response with a bad one."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}  # name -> version that was refused last
        self.suspects: deque[Suspects] = deque()

    def accept(self, versions: Mapping[str, str]) -> None:
        """A version that was refused once, asked for again, and taken this time."""
        for name, version in versions.items():
            if self.versions.get(name) == version:
                del self.versions[name]

    def refuse(self, flight: InFlight, reasons: Iterable[str], told: dict[str, str], *, by_name: bool) -> None:
        """Remember refused versions, so that they are not sent again until the bytes change."""
        for name, version in flight.sent.items():
            # A name with another version was unsubscribed meanwhile.
            if name not in reasons or told.get(name) != version:
                continue
            self.versions[name] = version
            if by_name:
                # It holds what it held. Without names we cannot know: Envoy may have applied a part of the response,
                # so `told` stays and going back to the earlier version is sent again.
                told[name] = flight.before[name]

    def split(self, flight: InFlight) -> None:
        """One of these is bad: they will be sent again in halves."""
        items = list(flight.sent.items())
        middle = len(items) // 2
        self.suspects.append(Suspects(dict(items[:middle]), flight.since))
        self.suspects.append(Suspects(dict(items[middle:]), flight.since))

    def next_half(self, cache: ResourceCache, told: Mapping[str, str]) -> tuple[list[Resource], int] | None:
        """Resources to be sent again, as they were, and the round of their change."""
        while self.suspects:
            half = self.suspects.popleft()
            resources = [
                resource
                for name, version in half.versions.items()
                if (resource := cache.get(name)) is not None
                and resource.version == version  # else it changed, and goes with the other changes
                and told.get(name) == version
            ]
            if resources:
                return resources, half.since
        return None

    @property
    def since(self) -> float:
        """The round of the oldest suspect; infinite when there is none."""
        return min((half.since for half in self.suspects), default=float("inf"))
