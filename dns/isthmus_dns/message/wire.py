"""The bytes of DNS messages: constants, names, record headers, and the EDNS record we send (RFC 1035, 6891)."""

import struct
from typing import Final

QR: Final = 0x8000
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16
BADCOOKIE: Final = 23

RCODES: Final = {
    NOERROR: "NOERROR",
    FORMERR: "FORMERR",
    SERVFAIL: "SERVFAIL",
    NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
    BADVERS: "BADVERS",
    BADCOOKIE: "BADCOOKIE",
}

A: Final = 1
NS: Final = 2
SOA: Final = 6
HINFO: Final = 13
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
SVCB: Final = 64
HTTPS: Final = 65
TKEY: Final = 249
TSIG: Final = 250
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255

TYPES: Final = {
    A: "A",
    NS: "NS",
    5: "CNAME",
    SOA: "SOA",
    12: "PTR",
    15: "MX",
    TXT: "TXT",
    AAAA: "AAAA",
    SRV: "SRV",
    43: "DS",
    48: "DNSKEY",
    SVCB: "SVCB",
    HTTPS: "HTTPS",
    IXFR: "IXFR",
    AXFR: "AXFR",
    ANY: "ANY",
}

IN: Final = 1

UDP_PLAIN: Final = 512
"""The largest UDP answer for a client without EDNS (RFC 1035, section 4.2.1)."""
UDP_MOST: Final = 1232
"""The largest UDP answer at all: it fits the smallest IPv6 path without fragments (DNS flag day 2020)."""
TCP_MOST: Final = 65535

EDE_STALE: Final = 3
EDE_NOT_READY: Final = 14

OPTION_NSID: Final = 3
OPTION_ECS: Final = 8
OPTION_COOKIE: Final = 10
OPTION_EDE: Final = 15

NAME_POINTER: Final = b"\xc0\x0c"
"""The name of the question, by reference: every question stands at offset 12."""


def encode_name(text: str) -> bytes:
    """The wire form, in lower case, of a name in text without escapes; ValueError when it is no name (RFC 1035)."""
    out = b""
    for label in text.rstrip(".").lower().split(".") if text.rstrip(".") else ():
        octets = label.encode("ascii")
        if not 0 < len(octets) < 64:
            raise ValueError(f"label {label!r} has {len(octets)} octets, not 1 to 63")
        out += bytes((len(octets),)) + octets
    if len(out) > 254:
        raise ValueError(f"name {text!r} is longer than 255 octets")
    return out + b"\0"


def name_text(name: bytes) -> str:
    """A wire name for people, with RFC 4343 escapes: `web.shop.svc.clusterset.local.`"""
    labels = []
    at = 0
    while at < len(name) and name[at]:
        octets = name[at + 1 : at + 1 + name[at]]
        labels.append("".join(chr(o) if 32 < o < 127 and o not in b'."\\;()@$' else f"\\{o:03d}" for o in octets))
        at += 1 + name[at]
    return ".".join(labels) + "."


def parents(name: bytes) -> list[bytes]:
    """The name and all names above it, nearest first, without the root."""
    found = []
    at = 0
    while name[at]:
        found.append(name[at:])
        at += 1 + name[at]
    return found


def compress(name: bytes, question: bytes) -> bytes:
    """`name`, its longest suffix that is also one of the question's name given as a pointer (RFC 1035, 4.1.4)."""
    if name == question:
        return NAME_POINTER
    at = 0
    while name[at]:
        suffix = name[at:]
        if question.endswith(suffix):
            return name[:at] + struct.pack("!H", 0xC000 | (12 + len(question) - len(suffix)))
        at += 1 + name[at]
    return name


def record(owner: bytes, rtype: int, ttl: int, rdata: bytes) -> bytes:
    """One resource record of class IN."""
    return owner + struct.pack("!HHIH", rtype, IN, ttl, len(rdata)) + rdata


def text_rdata(*strings: str) -> bytes:
    """The rdata of a TXT record: each string cut to 255 octets."""
    out = b""
    for text in strings:
        octets = text.encode()[:255]
        out += bytes((len(octets),)) + octets
    return out


def header(flags: int, answers: int, authority: int, additional: int, questions: int = 1) -> bytes:
    """Everything of a header that follows the id: flags and the four counts."""
    return struct.pack("!HHHHH", flags, questions, answers, authority, additional)


def option(code: int, body: bytes) -> bytes:
    """One EDNS option."""
    return struct.pack("!HH", code, len(body)) + body


def extended_error(code: int, text: str = "") -> bytes:
    """The EDNS option of an extended error (RFC 8914)."""
    return option(OPTION_EDE, struct.pack("!H", code) + text.encode())


def opt_record(extended_rcode: int = 0, dnssec_ok: bool = False, options: bytes = b"") -> bytes:
    """Our OPT record: version 0, we take 1232 bytes, DO given back (RFC 6891, RFC 3225)."""
    ttl = (extended_rcode >> 4) << 24 | (0x8000 if dnssec_ok else 0)
    return b"\0" + struct.pack("!HHIH", OPT, UDP_MOST, ttl, len(options)) + options
