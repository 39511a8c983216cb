"""Read one query strictly, byte by byte: what it asks, or which error it earns (RFC 1035, 6891, 8906)."""

import struct

import msgspec

from isthmus_dns.message import wire


class Edns(msgspec.Struct, frozen=True):
    """The OPT record of a query."""

    size: int
    version: int
    dnssec_ok: bool
    options: tuple[tuple[int, bytes], ...] = ()

    def option(self, code: int) -> bytes | None:
        """The body of the first option with this code."""
        for found, body in self.options:
            if found == code:
                return body
        return None


class Query(msgspec.Struct, frozen=True):
    """A query that could be read; `question` is as it came (0x20 case kept), `name` is in lower case."""

    question: bytes
    name: bytes
    qtype: int
    qclass: int
    edns: Edns | None


class Fault(msgspec.Struct, frozen=True):
    """A packet that earns an error: the answer's code and the question to give back, empty when it has none."""

    rcode: int
    question: bytes = b""
    edns: Edns | None = None


class _Malformed(Exception):
    """The packet ends too early or breaks a rule; never leaves this module."""


def read_query(packet: bytes) -> Query | Fault | None:
    """What `packet` asks; None where silence is right: too short for a header, or itself a response."""
    if len(packet) < 12 or packet[2] & 0x80:
        return None
    if packet[2] & 0x78:
        # NOTIFY, UPDATE, STATUS and the unknown: what follows the header is not ours to read (RFC 8906, 3.1.4).
        return Fault(wire.NOTIMP)
    questions, answers, authority, additional = struct.unpack_from("!4H", packet, 4)
    try:
        if questions == 0 and not answers and not authority:
            return Fault(wire.FORMERR, edns=_read_rest(packet, 12, 0, additional))
        if questions != 1:
            return Fault(wire.FORMERR)
        end = _name_end(packet)
        if end + 4 > len(packet):
            return Fault(wire.FORMERR)
        question = packet[12 : end + 4]
        qtype, qclass = struct.unpack_from("!HH", packet, end)
    except _Malformed:
        return Fault(wire.FORMERR)
    # Only an IXFR query has records before the additional section: the client's SOA (RFC 1995, section 3).
    if answers or (authority and qtype != wire.IXFR):
        return Fault(wire.FORMERR, question)
    try:
        edns = _read_rest(packet, end + 4, authority, additional)
    except _Malformed:
        return Fault(wire.FORMERR, question)
    if qtype in (wire.OPT, wire.TKEY, wire.TSIG):
        return Fault(wire.FORMERR, question, edns)
    return Query(question, packet[12:end].lower(), qtype, qclass, edns)


def _name_end(packet: bytes) -> int:
    """Where the name of the question ends; nothing stands before it, so a pointer there is always wrong."""
    at = 12
    while True:
        if at >= len(packet):
            raise _Malformed
        length = packet[at]
        at += 1
        if length == 0:
            break
        if length > 63:
            raise _Malformed
        at += length
    if at - 12 > 255 or at > len(packet):
        raise _Malformed
    return at


def _skip_name(packet: bytes, at: int) -> int:
    """Where a record's owner name ends; it may end in a pointer to what stands before it."""
    start = at
    while True:
        if at >= len(packet):
            raise _Malformed
        length = packet[at]
        if length >= 0xC0:
            if at + 2 > len(packet) or struct.unpack_from("!H", packet, at)[0] & 0x3FFF >= start:
                raise _Malformed
            return at + 2
        if length > 63:
            raise _Malformed
        at += 1 + length
        if length == 0:
            return at


def _read_rest(packet: bytes, at: int, authority: int, additional: int) -> Edns | None:
    """The OPT record among what follows the question; raises where sections or lengths are wrong."""
    edns: Edns | None = None
    for index in range(authority + additional):
        owner = at
        at = _skip_name(packet, at)
        if at + 10 > len(packet):
            raise _Malformed
        rtype, rclass, ttl, length = struct.unpack_from("!HHIH", packet, at)
        at += 10
        if at + length > len(packet):
            raise _Malformed
        if rtype == wire.OPT:
            # One OPT, with the root as its owner, in the additional section (RFC 6891, section 6.1.1).
            if edns is not None or index < authority or packet[owner] != 0:
                raise _Malformed
            version = (ttl >> 16) & 0xFF
            # What another version writes here is not ours to read: BADVERS is the answer (RFC 6891, section 6.1.3).
            options = () if version else _options(packet[at : at + length])
            edns = Edns(rclass, version, bool(ttl & 0x8000), options)
        at += length
    if at != len(packet):
        raise _Malformed
    return edns


def _options(rdata: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    at = 0
    while at < len(rdata):
        if at + 4 > len(rdata):
            raise _Malformed
        code, length = struct.unpack_from("!HH", rdata, at)
        at += 4
        if at + length > len(rdata):
            raise _Malformed
        found.append((code, rdata[at : at + length]))
        at += length
    return tuple(found)
