"""Turn a record set into the bytes of its answer once, so that a query costs a look-up and no rendering."""

import struct
from itertools import accumulate
from typing import NamedTuple

from isthmus_dns.message import wire
from isthmus_dns.zone.records import RRset

# What an answer must leave free of the 512 bytes that everybody takes: our OPT record with a cookie, an extended
# error and a server id.
RESERVED = 11 + 28 + 40 + 36

# A record of an IPv4 address whose owner is a pointer.
_SHORTEST = 16

Heads = tuple[bytes, bytes, bytes, bytes]
"""Header bytes after the id, for: no EDNS, no EDNS and RD, EDNS, EDNS and RD."""

Ready = tuple[bytes, bytes, bytes, bytes, bytes]
"""An answer that fits every client: the four heads and what follows the question."""


class Long(NamedTuple):
    """An answer that does not fit every client: sections apart, so that it can be cut for each transport."""

    answers: int
    answer: bytes
    helpers: int
    helper: bytes
    ready: Ready | None
    """The whole answer, when it fits every client that takes 1232 bytes."""


_FIXED = struct.Struct("!HHI").pack
_HEADS: dict[tuple[int, int, int, int], Heads] = {}


def heads(flags: int, answers: int, authority: int = 0, additional: int = 0) -> Heads:
    """The four heads; shared, because there are few different ones and many answers."""
    key = (flags, answers, authority, additional)
    found = _HEADS.get(key)
    if found is None:
        plain, edns = (additional, additional + 1)
        found = _HEADS[key] = (
            wire.header(wire.QR | flags, answers, authority, plain),
            wire.header(wire.QR | wire.RD | flags, answers, authority, plain),
            wire.header(wire.QR | flags, answers, authority, edns),
            wire.header(wire.QR | wire.RD | flags, answers, authority, edns),
        )
    return found


def compile_answer(rrset: RRset, ttl: int) -> Ready | Long:
    """The answer to a question for exactly this record set."""
    owner = rrset.owner
    parts = _records(wire.NAME_POINTER, rrset, ttl)
    answer = b"".join(parts)
    room = wire.TCP_MOST - 12 - len(owner) - 4 - RESERVED
    if len(answer) > room:  # a message ends at 65,535 bytes, over TCP too
        ends = accumulate(map(len, parts))
        del parts[sum(1 for end in ends if end <= room) :]
        answer = b"".join(parts)
    helpers: list[bytes] = []
    if len(answer) + _SHORTEST * len(rrset.helped_by) <= room:  # else they would be left out below
        for helper in rrset.helped_by:
            helpers += _records(wire.compress(helper.owner, owner), helper, ttl)
    helped = b"".join(helpers)
    if 16 + len(owner) + len(answer) + len(helped) + RESERVED <= wire.UDP_PLAIN:
        return (*heads(wire.AA, len(parts), 0, len(helpers)), answer + helped)
    if len(answer) + len(helped) > room:
        helpers, helped = [], b""
    whole = (*heads(wire.AA, len(parts), 0, len(helpers)), answer + helped)
    fits = 16 + len(owner) + len(whole[4]) + RESERVED <= wire.UDP_MOST
    return Long(len(parts), answer, len(helpers), helped, whole if fits else None)


def _records(owner: bytes, rrset: RRset, ttl: int) -> list[bytes]:
    fixed = owner + _FIXED(rrset.rtype, wire.IN, ttl)
    return [fixed + len(rdata).to_bytes(2, "big") + rdata for rdata in rrset.rdatas]
