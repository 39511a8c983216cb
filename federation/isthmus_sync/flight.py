"""What one response carried that the peer has not answered yet, and what its answer refuses."""

from collections.abc import Mapping

import msgspec
from google.protobuf.message import DecodeError

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
