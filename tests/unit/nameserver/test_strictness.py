"""Packets that are wrong or unusual: RFC 8906 row by row, and every malformed packet class."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from isthmus_dns.message import wire
from unit.nameserver.builders import ask, headless, host, question, responder, service, shown

ZONE = "clusterset.local"
NAME = f"web.shop.svc.{ZONE}"
SERVER = responder(service("shop/web"))
HEADER = struct.Struct("!6H")


def packet(flags: int = 0, counts: tuple[int, int, int, int] = (1, 0, 0, 0), body: bytes | None = None) -> bytes:
    plain = wire.encode_name(NAME) + b"\0\1\0\1"
    return HEADER.pack(0x1234, flags, *counts) + (plain if body is None else body)


def opt(size: int = 1232, version: int = 0, flags: int = 0, options: bytes = b"", owner: bytes = b"\0") -> bytes:
    return owner + struct.pack("!HHBBHH", 41, size, 0, version, flags, len(options)) + options


QUESTION = wire.encode_name(NAME) + b"\0\1\0\1"


def rcode_of(query: bytes, tcp: bool = False) -> int | None:
    response = SERVER.respond(query, tcp, "127.0.0.1")
    if response is None:
        return None
    assert response[:2] == query[:2]
    assert response[2] & 0x80
    return dns.message.from_wire(response).rcode()


# RFC 8906, section 8: what `dig` sends, and what has to come back.


@pytest.mark.parametrize(
    "flag", [dns.flags.AA, dns.flags.TC, dns.flags.RD, dns.flags.RA, 0x40, dns.flags.AD, dns.flags.CD]
)
def test_rfc8906_flags_of_a_query_change_nothing(flag: int) -> None:
    response = SERVER.respond(packet(flag))

    assert response is not None
    (flags,) = struct.unpack_from("!H", response, 2)
    # QR and AA are ours, RD is copied; AD, CD and Z never come back (RFC 4035, section 3.1.6).
    assert flags == wire.QR | wire.AA | (flag & wire.RD)


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 5, 6, 7, 15])
def test_rfc8906_unknown_opcodes_are_not_implemented(opcode: int) -> None:
    response = SERVER.respond(packet(opcode << 11))

    assert response == HEADER.pack(0x1234, wire.QR | opcode << 11 | wire.NOTIMP, 0, 0, 0, 0)


@pytest.mark.parametrize("rtype", ["TYPE1000", "TYPE65534", "DNSKEY", "LOC", "NULL"])
def test_rfc8906_unknown_types_have_no_data(rtype: str) -> None:
    assert shown(ask(SERVER, NAME, rtype)) == "NOERROR"


@pytest.mark.parametrize("options", [b"?", b"junk!", b"\xff\xff\xff\xff", b"\0\x0a\0\1?"])
def test_options_of_an_edns_version_of_the_future_are_not_read(options: bytes) -> None:
    future = packet(counts=(1, 0, 0, 1), body=QUESTION + opt(version=1, options=options))
    response = dns.message.from_wire(SERVER.respond(future) or b"")
    assert (response.edns, response.rcode()) == (0, dns.rcode.BADVERS)


def test_rfc8906_an_edns_version_of_the_future_is_badvers() -> None:
    response = dns.message.from_wire(SERVER.respond(packet(counts=(1, 0, 0, 1), body=QUESTION + opt(version=1))) or b"")

    assert response.rcode() == dns.rcode.BADVERS
    assert response.edns == 0
    assert not response.answer


def test_rfc8906_unknown_edns_options_and_flags_are_ignored() -> None:
    for record in (opt(options=wire.option(100, b"abc")), opt(flags=0x40), opt(flags=0x8000), opt(size=0)):
        response = dns.message.from_wire(SERVER.respond(packet(counts=(1, 0, 0, 1), body=QUESTION + record)) or b"")
        assert shown(response) == "NOERROR | A 10.1.2.3"
        assert response.edns == 0
        assert not response.options
        assert response.ednsflags & ~0x8000 == 0


def test_do_is_given_back() -> None:
    for _ in range(2):  # the second one takes the fast way
        assert ask(SERVER, NAME, want_dnssec=True).ednsflags & dns.flags.DO
        assert not ask(SERVER, NAME).ednsflags & dns.flags.DO


def test_rfc8906_edns_over_tcp() -> None:
    assert shown(ask(SERVER, NAME, tcp=True, edns=4096)) == "NOERROR | A 10.1.2.3"


# Silence.


@pytest.mark.parametrize("query", [b"", b"\0", b"\0" * 11, packet(wire.QR), packet(wire.QR, (0, 0, 0, 0), b"")])
def test_short_packets_and_responses_get_no_answer(query: bytes) -> None:
    assert SERVER.respond(query) is None


# FORMERR.

MALFORMED = {
    "no question": packet(counts=(0, 0, 0, 0), body=b""),
    "two questions": packet(counts=(2, 0, 0, 0), body=QUESTION * 2),
    "question missing": packet(body=b""),
    "name cut off": packet(body=QUESTION[:9]),
    "type cut off": packet(body=QUESTION[:-3]),
    "label of 64": packet(body=b"\x40" + b"a" * 64 + b"\0\0\1\0\1"),
    "label of 128": packet(body=b"\x80" + b"a" * 128 + b"\0\0\1\0\1"),
    "name of 257 octets": packet(body=(b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1"),
    "pointer to itself": packet(body=b"\xc0\x0c\0\1\0\1"),
    "pointer forward": packet(body=b"\1a\xc0\x40\0\1\0\1"),
    "pointer into the header": packet(body=b"\1a\xc0\x04\0\1\0\1"),
    "trailing bytes": packet(body=QUESTION + b"x"),
    "trailing bytes after OPT": packet(counts=(1, 0, 0, 1), body=QUESTION + opt() + b"x"),
    "an answer in the query": packet(
        counts=(1, 1, 0, 0), body=QUESTION + wire.record(wire.NAME_POINTER, 1, 1, b"abcd")
    ),
    "authority in the query": packet(
        counts=(1, 0, 1, 0), body=QUESTION + wire.record(wire.NAME_POINTER, 1, 1, b"abcd")
    ),
    "OPT as an answer": packet(counts=(1, 1, 0, 0), body=QUESTION + opt()),
    "OPT in authority": packet(counts=(1, 0, 1, 0), body=QUESTION + opt()),
    "two OPT": packet(counts=(1, 0, 0, 2), body=QUESTION + opt() + opt()),
    "OPT with an owner": packet(counts=(1, 0, 0, 1), body=QUESTION + opt(owner=b"\1a\0")),
    "OPT missing": packet(counts=(1, 0, 0, 1)),
    "OPT cut off": packet(counts=(1, 0, 0, 1), body=QUESTION + opt()[:-1]),
    "option longer than OPT": packet(counts=(1, 0, 0, 1), body=QUESTION + opt(options=b"\0\x0a\0\x09abc")),
    "option header cut off": packet(counts=(1, 0, 0, 1), body=QUESTION + opt(options=b"\0\x0a\0")),
    "record owner loops": packet(
        counts=(1, 0, 0, 1), body=QUESTION + struct.pack("!H", 0xC000 | 12 + len(QUESTION)) + b"\0\1\0\1\0\0\0\0\0\0"
    ),
    "type OPT asked for": packet(body=QUESTION[:-4] + b"\0\x29\0\1"),
    "type TSIG asked for": packet(body=QUESTION[:-4] + b"\0\xfa\0\1"),
}


@pytest.mark.parametrize("query", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_packet_is_a_format_error_no_longer_than_itself(query: bytes) -> None:
    response = SERVER.respond(query)

    assert response is not None
    assert response[3] & 15 == wire.FORMERR
    assert len(response) <= max(len(query), 12)
    dns.message.from_wire(response)


def test_a_record_that_we_do_not_know_in_the_additional_section_is_ignored() -> None:
    tsig_like = wire.record(wire.NAME_POINTER, 250, 0, b"abc")

    assert rcode_of(packet(counts=(1, 0, 0, 2), body=QUESTION + opt() + tsig_like)) == dns.rcode.NOERROR


# REFUSED.


@pytest.mark.parametrize("rclass", [3, 4, 254, 255])
def test_other_classes_are_refused(rclass: int) -> None:
    assert rcode_of(packet(body=QUESTION[:-2] + struct.pack("!H", rclass))) == dns.rcode.REFUSED


@pytest.mark.parametrize("name", ["version.bind", "version.server", "hostname.bind", "id.server"])
def test_the_servers_version_is_nobodys_business(name: str) -> None:
    assert rcode_of(packet(body=wire.encode_name(name) + b"\0\x10\0\3")) == dns.rcode.REFUSED


@pytest.mark.parametrize("name", [".", "local", "example.com", "xclusterset.local", "3.2.1.10.in-addr.arpa"])
def test_names_outside_our_zones_are_refused(name: str) -> None:
    response = ask(SERVER, name)

    assert response.rcode() == dns.rcode.REFUSED
    assert not response.authority


def test_an_incremental_transfer_with_its_soa_is_refused() -> None:
    soa = wire.record(wire.NAME_POINTER, wire.SOA, 0, b"\0\0" + b"\0" * 20)

    assert rcode_of(packet(counts=(1, 0, 1, 0), body=QUESTION[:-4] + b"\0\xfb\0\1" + soa)) == dns.rcode.REFUSED


# Sizes.

MANY = responder(headless("shop/db", [host(f"10.0.{n}.1", f"db-{n}") for n in range(60)]))
SIXTEEN = responder(headless("shop/db", [host(f"10.0.{n}.1", f"db-{n}") for n in range(14)]))


@pytest.mark.parametrize(
    ("edns", "tcp", "cut"),
    [(None, False, True), (512, False, True), (1232, False, False), (4096, False, False), (None, True, False)],
)
def test_an_answer_is_cut_at_what_the_client_takes(edns: int | None, tcp: bool, cut: bool) -> None:
    response = ask(MANY, f"db.shop.svc.{ZONE}", "A", edns, tcp)

    assert bool(response.flags & dns.flags.TC) is cut
    assert len(response.answer[0]) == 60 if not cut else not response.answer


def test_no_datagram_is_longer_than_1232_bytes_whatever_the_client_says() -> None:
    query = question(f"_http._tcp.db.shop.svc.{ZONE}", "SRV", 65535).to_wire()
    response = MANY.respond(query)

    assert response is not None
    assert len(response) <= 1232
    assert dns.message.from_wire(response).flags & dns.flags.TC
    over_tcp = MANY.respond(query, True)
    assert over_tcp is not None
    assert len(dns.message.from_wire(over_tcp).answer[0]) == 60


def test_the_additional_section_goes_before_the_answer_is_cut() -> None:
    response = ask(SIXTEEN, f"_http._tcp.db.shop.svc.{ZONE}", "SRV", 1232)

    assert len(response.answer[0]) == 14
    assert not response.additional
    assert not response.flags & dns.flags.TC
    assert ask(SIXTEEN, f"_http._tcp.db.shop.svc.{ZONE}", "SRV", 1232, tcp=True).additional


def test_an_answer_that_not_even_tcp_can_carry_is_cut_to_fit() -> None:
    hosts = [host(f"10.{n >> 8}.{n & 255}.1", ports=[]) for n in range(5000)]
    response = ask(responder(headless("shop/big", hosts)), f"big.shop.svc.{ZONE}", tcp=True)

    assert 4000 < len(response.answer[0]) < 4100


@pytest.mark.parametrize(("octets", "rcode"), [(255, dns.rcode.NXDOMAIN), (256, dns.rcode.FORMERR)])
def test_a_name_has_255_octets_at_most(octets: int, rcode: int) -> None:
    name = wire.encode_name(ZONE)
    while room := octets - len(name):
        taken = min(64, room) if room != 65 else 63  # a label needs two octets
        name = bytes((taken - 1,)) + b"a" * (taken - 1) + name
    assert len(name) == octets
    assert rcode_of(packet(body=name + b"\0\1\0\1")) == rcode
