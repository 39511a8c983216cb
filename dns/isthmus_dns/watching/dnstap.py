"""Encode dnstap: what was asked and answered, as protobuf messages inside frame streams (dnstap.info, fstrm)."""

import ipaddress
import struct
from functools import lru_cache

CONTENT_TYPE = b"protobuf:dnstap.Dnstap"

ACCEPT, START, STOP, READY, FINISH = 1, 2, 3, 4, 5
_FIELD_CONTENT_TYPE = 1

AUTH_QUERY = 1
AUTH_RESPONSE = 2
_INET, _INET6 = 1, 2
_UDP, _TCP = 1, 2

_LENGTH = struct.Struct("!I").pack
_FIXED = struct.Struct("<I").pack


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
    seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
    query = kind == AUTH_QUERY
    message = b"".join(
        (
            _client(kind, client, tcp),
            b"\x30",  # field 6, a number
            _varint(client_port),
            _second(8 if query else 12, seconds),
            b"\x4d" if query else b"\x6d",  # field 9 or 13, four bytes
            _FIXED(nanoseconds),
            b"\x52" if query else b"\x72",  # field 10 or 14, octets
            _varint(len(packet)),
            packet,
        )
    )
    head, length = _identity(identity), _varint(len(message))
    # Field 14, octets, is the message; field 15, a number, says that it is one.
    return b"".join((_LENGTH(len(head) + 3 + len(length) + len(message)), head, b"\x72", length, message, b"\x78\x01"))


@lru_cache(8)
def _identity(identity: bytes) -> bytes:
    return _octets(1, identity) + _octets(2, b"isthmus")


@lru_cache(8)
def _second(field: int, seconds: int) -> bytes:
    return _number(field, seconds)


@lru_cache(8192)
def _client(kind: int, client: str, tcp: bool) -> bytes:
    address = ipaddress.ip_address(client.partition("%")[0])
    family = _INET if address.version == 4 else _INET6
    return _number(1, kind) + _number(2, family) + _number(3, _TCP if tcp else _UDP) + _octets(4, address.packed)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _octets(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    if value < 16384:
        return bytes((value & 127 | 128, value >> 7))
    return bytes((value & 127 | 128,)) + _varint(value >> 7)
