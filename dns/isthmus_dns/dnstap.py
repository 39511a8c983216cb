"""Encode dnstap: what was asked and answered, as protobuf messages inside frame streams (dnstap.info, fstrm)."""

import ipaddress
import struct
from collections.abc import Iterator

CONTENT_TYPE = b"protobuf:dnstap.Dnstap"

ACCEPT, START, STOP, READY, FINISH = 1, 2, 3, 4, 5
_FIELD_CONTENT_TYPE = 1

AUTH_QUERY = 1
AUTH_RESPONSE = 2
_MESSAGE = 1
_INET, _INET6 = 1, 2
_UDP, _TCP = 1, 2


def control_frame(kind: int) -> bytes:
    """A control frame; READY and START carry the content type, STOP and FINISH do not."""
    body = struct.pack("!I", kind)
    if kind in (READY, START):
        body += struct.pack("!II", _FIELD_CONTENT_TYPE, len(CONTENT_TYPE)) + CONTENT_TYPE
    return struct.pack("!II", 0, len(body)) + body


def accepts(body: bytes) -> bool:
    """Whether a control frame's body is an ACCEPT of our content type."""
    if len(body) < 4 or struct.unpack_from("!I", body)[0] != ACCEPT:
        return False
    at = 4
    while at + 8 <= len(body):
        field, length = struct.unpack_from("!II", body, at)
        if field == _FIELD_CONTENT_TYPE and body[at + 8 : at + 8 + length] == CONTENT_TYPE:
            return True
        at += 8 + length
    return False


def data_frame(
    kind: int, identity: bytes, packet: bytes, client: str, client_port: int, tcp: bool, at_ns: int
) -> bytes:
    """One query or response; `at_ns` is Unix time in nanoseconds."""
    address = ipaddress.ip_address(client.partition("%")[0])
    seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
    if kind == AUTH_QUERY:
        when = _number(8, seconds) + _fixed(9, nanoseconds) + _octets(10, packet)
    else:
        when = _number(12, seconds) + _fixed(13, nanoseconds) + _octets(14, packet)
    message = (
        _number(1, kind)
        + _number(2, _INET if address.version == 4 else _INET6)
        + _number(3, _TCP if tcp else _UDP)
        + _octets(4, address.packed)
        + _number(6, client_port)
        + when
    )
    body = _octets(1, identity) + _octets(2, b"isthmus") + _octets(14, message) + _number(15, _MESSAGE)
    return struct.pack("!I", len(body)) + body


def _number(field: int, value: int) -> bytes:
    return bytes((*_varint(field << 3), *_varint(value)))


def _fixed(field: int, value: int) -> bytes:
    return bytes(_varint(field << 3 | 5)) + struct.pack("<I", value)


def _octets(field: int, value: bytes) -> bytes:
    return bytes((*_varint(field << 3 | 2), *_varint(len(value)))) + value


def _varint(value: int) -> Iterator[int]:
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value
