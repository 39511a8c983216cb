"""Frame resources and responses as protobuf bytes, so that bytes made once are joined, never serialised again.

Field numbers: envoy/service/discovery/v3/discovery.proto (`Resource`, `DeltaDiscoveryResponse`) and
google/protobuf/any.proto.
"""

from collections.abc import Iterable

from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf.message import DecodeError

from isthmus_core.errors import InvalidInput

Request = discovery.DeltaDiscoveryRequest
Response = discovery.DeltaDiscoveryResponse

MORE = "more"
"""`system_version_info` of a response that is one part of an answer. The field is for debugging: Envoy ignores it."""

AHEAD = "ahead"
"""`system_version_info` of a response that is told ahead of its turn: without a nonce, and never answered."""

TELL_AHEAD = "isthmus.tell-ahead"
"""A client feature (`Node.client_features`) in the first request of a type: this subscriber takes such responses."""

_LENGTH_DELIMITED = 2


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field: tag, length, payload."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def frame_resource(type_url: str, name: str, version: str, body: bytes) -> bytes:
    """One entry of `DeltaDiscoveryResponse.resources`, ready to be joined with others; it ends with `body`."""
    packed = field(1, type_url.encode()) + (field(2, body) if body else b"")
    return field(2, field(1, version.encode()) + field(3, name.encode()) + field(2, packed))


def join_response(type_url: str, nonce: str, label: str, framed: Iterable[bytes], removed: Iterable[str]) -> bytes:
    """A whole serialised DeltaDiscoveryResponse out of framed resources."""
    head = field(1, label.encode()) + field(4, type_url.encode()) + field(5, nonce.encode())
    return b"".join((head, *framed, *(field(6, name.encode()) for name in removed)))


def read_request(payload: bytes) -> Request:
    """Bytes from a subscriber as a request; raises InvalidInput."""
    try:
        return Request.FromString(payload)
    except DecodeError as error:
        raise InvalidInput("the peer sent bytes that are no DeltaDiscoveryRequest") from error


def read_response(payload: bytes) -> Response:
    """Bytes from a publisher as a response; raises InvalidInput."""
    try:
        return Response.FromString(payload)
    except DecodeError as error:
        raise InvalidInput("the peer sent bytes that are no DeltaDiscoveryResponse") from error
