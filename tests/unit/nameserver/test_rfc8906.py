"""The table of RFC 8906, section 8, row by row: the query that `dig` would send, and the whole of what must come back.

Further rows come from the compliance report of the same authors (flags, types, each defined option by itself).
"""

import struct
from typing import NamedTuple

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.cookies import Cookies
from isthmus_dns.clients.subnet import parse_networks
from isthmus_dns.message import wire
from unit.nameserver.builders import SERIAL, responder, service

CLIENT = "192.0.2.1"
ORIGIN = wire.encode_name("clusterset.local")
TYPE1000, TYPE666, DNSKEY = 1000, 666, 48
NSID = wire.option(3, b"")
SUBNET = wire.option(8, b"\0\1\0\0")
EXPIRE = wire.option(9, b"")
COOKIE = wire.option(10, bytes(range(1, 9)))
UNKNOWN = wire.option(100, b"")

SOA = f"SOA ns.dns.clusterset.local. hostmaster.clusterset.local. {SERIAL} 7200 1800 86400 5"
FOUND = f"NOERROR [aa] answer={SOA}"
EMPTY = f"NOERROR [aa] authority={SOA}"
PLAIN_OPT = "OPT=version 0, 1232 bytes"


class Row(NamedTuple):
    """One query, and the answer's code, flags, sections and OPT record; what is not named must not be there."""

    section: str
    title: str
    answer: str
    qtype: int = wire.SOA
    flags: int = 0
    opcode: int = 0
    edns: int | None = None
    """The EDNS version."""
    edns_flags: int = 0
    options: bytes = b""
    size: int = 4096
    tcp: bool = False
    header_only: bool = False

    def packet(self) -> bytes:
        """The query."""
        flags = self.flags | self.opcode << 11
        if self.header_only:
            return struct.pack("!6H", 0x8906, flags, 0, 0, 0, 0)
        packet = struct.pack("!6H", 0x8906, flags, 1, 0, 0, 0 if self.edns is None else 1)
        packet += ORIGIN + struct.pack("!HH", self.qtype, wire.IN)
        if self.edns is not None:
            packet += b"\0" + struct.pack("!HHBBHH", 41, self.size, 0, self.edns, self.edns_flags, len(self.options))
        return packet + self.options


RD, RA, Z, AD, CD, TC, AA = 0x0100, 0x0080, 0x0040, 0x0020, 0x0010, 0x0200, 0x0400
DO = 0x8000

ROWS = [
    # 8.1: basic DNS.
    Row("8.1.1", "is the server configured for the zone", FOUND),
    Row("8.1.2", "unknown types", EMPTY, qtype=TYPE1000),
    Row("8.1.2", "a type that is not assigned", EMPTY, qtype=TYPE666),
    Row("8.1.3.1", "CD=1", FOUND, flags=CD),
    Row("8.1.3.2", "AD=1", FOUND, flags=AD),
    Row("8.1.3.3", "the reserved bit", FOUND, flags=Z),
    Row("8.1.3.4", "recursive queries", FOUND.replace("[aa]", "[aa rd]"), flags=RD),
    Row("report", "AA=1", FOUND, flags=AA),
    Row("report", "RA=1", FOUND, flags=RA),
    Row("report", "TC=1", FOUND, flags=TC),
    Row("report", "every flag", FOUND.replace("[aa]", "[aa rd]"), flags=AA | TC | RD | RA | Z | AD | CD),
    *(
        Row("8.1.4", f"opcode {opcode}", f"{dns.opcode.to_text(dns.opcode.Opcode(opcode))} NOTIMP []", opcode=opcode)
        for opcode in range(1, 16)
    ),
    Row("8.1.4", "an unknown opcode, header only", "15 NOTIMP []", opcode=15, header_only=True),
    Row(
        *("report", "an unknown opcode with every flag", "15 NOTIMP [rd]"),
        opcode=15,
        flags=AA | TC | RD | RA | Z | AD | CD,
        header_only=True,
    ),
    Row("8.1.5", "TCP", FOUND, tcp=True),
    # 8.2: EDNS.
    Row("8.2.1", "minimal EDNS", f"{FOUND} {PLAIN_OPT}", edns=0),
    Row("8.2.2", "EDNS version 1", f"BADVERS [] {PLAIN_OPT}", edns=1),
    Row("8.2.2", "EDNS version 255", f"BADVERS [] {PLAIN_OPT}", edns=255),
    Row("8.2.3", "an unknown option", f"{FOUND} {PLAIN_OPT}", edns=0, options=UNKNOWN),
    Row("8.2.4", "unknown EDNS flags", f"{FOUND} {PLAIN_OPT}", edns=0, edns_flags=0x40),
    Row("8.2.4", "every unknown EDNS flag", f"{FOUND} {PLAIN_OPT}", edns=0, edns_flags=0x7FFF),
    Row("8.2.5", "version 1, unknown flags", f"BADVERS [] {PLAIN_OPT}", edns=1, edns_flags=0x40),
    Row("8.2.6", "version 1, an unknown option", f"BADVERS [] {PLAIN_OPT}", edns=1, options=UNKNOWN),
    Row("8.2.7", "an answer that has to be cut", f"{EMPTY} {PLAIN_OPT}, DO", DNSKEY, 0, 0, 0, DO, b"", 512),
    Row("8.2.8", "DO=1", f"{FOUND} {PLAIN_OPT}, DO", edns=0, edns_flags=DO),
    Row("report", "DO=1 and CD=1", f"{FOUND} {PLAIN_OPT}, DO", edns=0, edns_flags=DO, flags=CD),
    Row("8.2.9", "version 1, DO=1", f"BADVERS [] {PLAIN_OPT}, DO", edns=1, edns_flags=DO),
    Row(
        *("8.2.10", "several defined options", f"{FOUND} {PLAIN_OPT}, NSID, COOKIE, ECS"),
        edns=0,
        options=COOKIE + NSID + EXPIRE + SUBNET,
    ),
    Row("report", "NSID", f"{FOUND} {PLAIN_OPT}, NSID", edns=0, options=NSID),
    Row("report", "a cookie", f"{FOUND} {PLAIN_OPT}, COOKIE", edns=0, options=COOKIE),
    Row("report", "EXPIRE", f"{FOUND} {PLAIN_OPT}", edns=0, options=EXPIRE),
    Row("report", "a client subnet", f"{FOUND} {PLAIN_OPT}, ECS", edns=0, options=SUBNET),
    *(
        Row("report", f"version 1, {title}", f"BADVERS [] {PLAIN_OPT}", edns=1, options=options)
        for title, options in {
            "NSID": NSID,
            "a cookie": COOKIE,
            "EXPIRE": EXPIRE,
            "a client subnet": SUBNET,
            "a cookie of a wrong length": wire.option(10, b"short"),
            "a malformed subnet": wire.option(8, b"\0\1\xff\0"),
        }.items()
    ),
    Row("report", "EDNS over TCP", f"{EMPTY} {PLAIN_OPT}, DO", DNSKEY, 0, 0, 0, DO, b"", 512, True),
    *(
        Row("report", f"a size of {size}", f"{FOUND} {PLAIN_OPT}", edns=0, size=size)
        for size in (0, 511, 512, 1232, 65535)
    ),
    Row(
        *("report", "what dig sends", f"{FOUND.replace('[aa]', '[aa rd]')} {PLAIN_OPT}, COOKIE"),
        edns=0,
        flags=RD | AD,
        options=COOKIE,
    ),
    # Every type that the report asks for, and the whole ranges of types for questions and of private use.
    *(
        Row("types", dns.rdatatype.to_text(dns.rdatatype.RdataType(rtype)), EMPTY, qtype=rtype)
        for rtype in (*range(1, 249), 256, 257, 258, 259, 32768, 32769, 65280, 65534)
        if rtype not in (wire.NS, wire.SOA, wire.OPT)
    ),
]


def written(response: bytes) -> str:
    """All that an answer says, in one line of the table's form."""
    message = dns.message.from_wire(response)
    flags = dns.flags.to_text(message.flags).lower().split()
    assert "qr" in flags
    opcode = dns.opcode.to_text(message.opcode())
    parts = [] if opcode == "QUERY" else [opcode]
    flags.remove("qr")
    if message.flags & Z:
        flags.append("z")
    parts += [dns.rcode.to_text(message.rcode()), f"[{' '.join(flags)}]"]
    for name, section in (("answer", message.answer), ("authority", message.authority)):
        if section:
            records = [f"{dns.rdatatype.to_text(rrset.rdtype)} {rdata}" for rrset in section for rdata in rrset]
            parts.append(f"{name}={' '.join(records)}")
    assert not message.additional
    if message.edns >= 0:
        unknown = [f"flags {message.ednsflags & 0x7FFF}"] if message.ednsflags & 0x7FFF else []
        granted = ["DO"] if message.ednsflags & DO else []
        options = [dns.edns.OptionType.to_text(option.otype) for option in message.options]
        parts.append("OPT=" + ", ".join([f"version {message.edns}", "1232 bytes", *unknown, *granted, *options]))
        assert message.payload == 1232
    return " ".join(parts)


SERVER = responder(
    service("shop/web"),
    features=Features(server_id="dns-7", cookies=Cookies(b"s" * 16), subnet_resolvers=parse_networks((CLIENT,))),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section} {row.title}")
def test_rfc8906(row: Row) -> None:
    packet = row.packet()
    for tcp in {row.tcp, True}:
        for _ in range(2):  # the first one may take the slow way, and teaches the fast one
            response = SERVER.respond(packet, tcp, CLIENT)

            assert response is not None
            assert response[:2] == packet[:2]
            asked = b"" if row.opcode else packet[12 : 16 + len(ORIGIN)]
            assert response[12:].startswith(asked)
            assert response[4:6] == (b"\0\1" if asked else b"\0\0")
            assert written(response) == row.answer
