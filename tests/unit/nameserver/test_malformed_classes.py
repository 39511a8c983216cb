"""Every class of malformed and unusual packets, by name, with the exact bytes of its answer, over UDP and TCP."""

import struct
from typing import NamedTuple

import pytest

from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.cookies import Cookies
from isthmus_dns.clients.subnet import parse_networks
from isthmus_dns.message import wire
from unit.nameserver.builders import headless, host, responder, service

ID = 0x4906
CLIENT = "192.0.2.1"
SERVER = responder(
    service("shop/web"),
    headless("shop/db", [host("10.9.0.1", "db-0")]),
    features=Features(server_id="dns-7", cookies=Cookies(b"s" * 16), subnet_resolvers=parse_networks((CLIENT,))),
)
UNSYNCED = responder(service("shop/web"), synced=False)
NAME = wire.encode_name("web.shop.svc.clusterset.local")
OPT = b"\0" + struct.pack("!HHIH", wire.OPT, 1232, 0, 0)
RECORD = wire.record(wire.NAME_POINTER, wire.A, 5, b"\x0a\1\2\3")
SOA = wire.record(wire.NAME_POINTER, wire.SOA, 0, b"\0\0" + bytes(20))


def question(name: bytes = NAME, rtype: int = wire.A, rclass: int = wire.IN) -> bytes:
    return name + struct.pack("!HH", rtype, rclass)


def packet(*parts: bytes, flags: int = 0, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return struct.pack("!6H", ID, flags, *counts) + b"".join(parts)


def opt(
    options: bytes = b"", owner: bytes = b"\0", size: int = 1232, version: int = 0, length: int | None = None
) -> bytes:
    """An OPT record; `length` is what it says of itself."""
    said = len(options) if length is None else length
    return owner + struct.pack("!HHBBHH", wire.OPT, size, 0, version, 0, said) + options


def answer(rcode: int, asked: bytes = b"", edns: bool = False, opcode: int = 0) -> bytes:
    """An answer that holds nothing but the question, where it could be read, and our OPT record where we got one."""
    flags = wire.QR | opcode << 11 | rcode & 15
    additional = wire.opt_record(rcode) if edns else b""
    return packet(asked, additional, flags=flags, counts=(1 if asked else 0, 0, 0, 1 if edns else 0))


Q = question()
FORMERR, ASKED_FORMERR = answer(wire.FORMERR), answer(wire.FORMERR, Q)
ONE_OPT = (1, 0, 0, 1)


class Case(NamedTuple):
    """A packet and all that comes back; None is silence."""

    packet: bytes
    answer: bytes | None


def refused(*, name: bytes = NAME, rtype: int = wire.A, rclass: int = wire.IN) -> Case:
    asked = question(name, rtype, rclass)
    return Case(packet(asked), answer(wire.REFUSED, asked))


CLASSES = {
    # Silence: nothing to answer, or an answer that could start two servers answering each other.
    "nothing at all": Case(b"", None),
    "one byte": Case(b"\x49", None),
    "short header": Case(packet(counts=(1, 0, 0, 0))[:11], None),
    "response bit": Case(packet(Q, flags=wire.QR), None),
    "response bit, header only": Case(packet(flags=wire.QR, counts=(0, 0, 0, 0)), None),
    "response bit, malformed": Case(packet(b"\xff", flags=wire.QR), None),
    # The question.
    "header only": Case(packet(counts=(0, 0, 0, 0)), FORMERR),
    "QDCOUNT 0": Case(packet(opt(), counts=(0, 0, 0, 1)), answer(wire.FORMERR, edns=True)),
    "QDCOUNT 0, but a question": Case(packet(Q, counts=(0, 0, 0, 0)), FORMERR),
    "QDCOUNT 2, the same question": Case(packet(Q, Q, counts=(2, 0, 0, 0)), FORMERR),
    "QDCOUNT 2, two questions": Case(packet(Q, question(rtype=wire.AAAA), counts=(2, 0, 0, 0)), FORMERR),
    "QDCOUNT 2, one question": Case(packet(Q, counts=(2, 0, 0, 0)), FORMERR),
    "QDCOUNT 65535": Case(packet(Q, counts=(65535, 0, 0, 0)), FORMERR),
    "question missing": Case(packet(), FORMERR),
    "name cut off in a label": Case(packet(Q[:7]), FORMERR),
    "name cut off before its end": Case(packet(NAME[:-1]), FORMERR),
    "type cut off": Case(packet(Q[:-3]), FORMERR),
    "class cut off": Case(packet(Q[:-1]), FORMERR),
    "label of 64": Case(packet(question(b"\x40" + b"a" * 64 + NAME)), FORMERR),
    "label of 65 to 127": Case(packet(question(b"\x7f" + b"a" * 127 + NAME)), FORMERR),
    "label of type 10": Case(packet(question(b"\x81" + b"a" * 129 + NAME)), FORMERR),
    "label of 191": Case(packet(question(b"\xbf" + b"a" * 191 + NAME)), FORMERR),
    "name of 256": Case(packet(question((b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\0")), FORMERR),
    "name of 257": Case(packet(question((b"\x3f" + b"a" * 63) * 4 + b"\0")), FORMERR),
    "name of 128 labels": Case(packet(question(b"\1a" * 128 + b"\0")), FORMERR),
    "pointer to itself": Case(packet(question(b"\xc0\x0c")), FORMERR),
    "pointer loop of two": Case(packet(question(b"\xc0\x0e\xc0\x0c")), FORMERR),
    "pointer after a label, to that label": Case(packet(question(b"\1a\xc0\x0c")), FORMERR),
    "forward pointer": Case(packet(question(b"\xc0\x20"), NAME), FORMERR),
    "pointer beyond the packet": Case(packet(question(b"\xff\xff")), FORMERR),
    "pointer into the header": Case(packet(question(b"\1a\xc0\x04")), FORMERR),
    "pointer cut off": Case(packet(b"\xc0"), FORMERR),
    "type OPT": Case(packet(question(rtype=wire.OPT)), answer(wire.FORMERR, question(rtype=wire.OPT))),
    "type TSIG": Case(packet(question(rtype=wire.TSIG)), answer(wire.FORMERR, question(rtype=wire.TSIG))),
    "type TKEY": Case(packet(question(rtype=wire.TKEY)), answer(wire.FORMERR, question(rtype=wire.TKEY))),
    # What follows the question.
    "one trailing byte": Case(packet(Q, b"\0"), ASKED_FORMERR),
    "trailing bytes that look like a record": Case(packet(Q, OPT), ASKED_FORMERR),
    "trailing bytes after OPT": Case(packet(Q, opt(), b"x", counts=ONE_OPT), ASKED_FORMERR),
    "an answer": Case(packet(Q, RECORD, counts=(1, 1, 0, 0)), ASKED_FORMERR),
    "an authority": Case(packet(Q, RECORD, counts=(1, 0, 1, 0)), ASKED_FORMERR),
    "counts without records": Case(packet(Q, counts=(1, 0, 0, 9)), ASKED_FORMERR),
    "record owner loops": Case(
        packet(Q, struct.pack("!H", 0xC000 | 12 + len(Q)), RECORD[2:], counts=ONE_OPT), ASKED_FORMERR
    ),
    "record owner points forward": Case(packet(Q, b"\xc0\xff", RECORD[2:], counts=ONE_OPT), ASKED_FORMERR),
    "record owner with a label of 64": Case(packet(Q, b"\x40", b"a" * 64, RECORD, counts=ONE_OPT), ASKED_FORMERR),
    "record header cut off": Case(packet(Q, RECORD[:9], counts=ONE_OPT), ASKED_FORMERR),
    "record data cut off": Case(packet(Q, RECORD[:-1], counts=ONE_OPT), ASKED_FORMERR),
    # EDNS.
    "two OPT": Case(packet(Q, opt(), opt(), counts=(1, 0, 0, 2)), ASKED_FORMERR),
    "three OPT": Case(packet(Q, opt(), opt(), opt(), counts=(1, 0, 0, 3)), ASKED_FORMERR),
    "OPT as an answer": Case(packet(Q, opt(), counts=(1, 1, 0, 0)), ASKED_FORMERR),
    "OPT in authority": Case(packet(Q, opt(), counts=(1, 0, 1, 0)), ASKED_FORMERR),
    "OPT with a name": Case(packet(Q, opt(owner=b"\1a\0"), counts=ONE_OPT), ASKED_FORMERR),
    "OPT with a pointer as its name": Case(packet(Q, opt(owner=b"\xc0\x0c"), counts=ONE_OPT), ASKED_FORMERR),
    "OPT missing": Case(packet(Q, counts=ONE_OPT), ASKED_FORMERR),
    "OPT cut off": Case(packet(Q, opt()[:-1], counts=ONE_OPT), ASKED_FORMERR),
    "OPT longer than the packet": Case(packet(Q, opt(length=4), counts=ONE_OPT), ASKED_FORMERR),
    "option longer than OPT": Case(packet(Q, opt(b"\0\x0a\0\x09abc"), counts=ONE_OPT), ASKED_FORMERR),
    "option header cut off": Case(packet(Q, opt(b"\0\x0a\0"), counts=ONE_OPT), ASKED_FORMERR),
    "EDNS version 1": Case(packet(Q, opt(version=1), counts=ONE_OPT), answer(wire.BADVERS, Q, edns=True)),
    **{
        f"cookie of {length} bytes": Case(
            packet(Q, opt(wire.option(wire.OPTION_COOKIE, b"c" * length)), counts=ONE_OPT),
            answer(wire.FORMERR, Q, edns=True),
        )
        for length in (0, 1, 7, 9, 15, 41, 255)
    },
    **{
        f"client subnet with {title}": Case(
            packet(Q, opt(wire.option(wire.OPTION_ECS, bytes.fromhex(body))), counts=ONE_OPT),
            answer(wire.FORMERR, Q, edns=True),
        )
        for title, body in {
            "nothing in it": "",
            "an unknown family": "00031800c00002",
            "too long a prefix": "00012100c000020100",
            "too few address bytes": "00011800c000",
            "bits beyond its prefix": "00011700c00003",
            "a scope": "00011818c00002",
        }.items()
    },
    # Operations that nobody may ask of us; what follows the header is not read.
    **{
        f"opcode {opcode}": Case(packet(Q, flags=opcode << 11), answer(wire.NOTIMP, opcode=opcode))
        for opcode in range(1, 16)
    },
    "NOTIFY with its SOA": Case(
        packet(question(rtype=wire.SOA), SOA, flags=4 << 11 | wire.AA, counts=(1, 1, 0, 0)),
        answer(wire.NOTIMP, opcode=4),
    ),
    "UPDATE that adds a record": Case(
        packet(question(rtype=wire.SOA), RECORD, flags=5 << 11, counts=(1, 0, 1, 0)), answer(wire.NOTIMP, opcode=5)
    ),
    "UPDATE that deletes a name": Case(
        packet(
            *(question(rtype=wire.SOA), NAME, struct.pack("!HHIH", wire.ANY, 255, 0, 0)),
            flags=5 << 11,
            counts=(1, 0, 1, 0),
        ),
        answer(wire.NOTIMP, opcode=5),
    ),
    "unknown opcode, malformed": Case(packet(b"\xff", flags=15 << 11), answer(wire.NOTIMP, opcode=15)),
    # Not ours to say.
    "class CH": refused(rclass=3),
    "class HS": refused(rclass=4),
    "class NONE": refused(rclass=254),
    "class ANY": refused(rclass=255),
    "class 0": refused(rclass=0),
    "class 65535": refused(rclass=65535),
    "version.bind": refused(name=wire.encode_name("version.bind"), rtype=wire.TXT, rclass=3),
    "version.server": refused(name=wire.encode_name("version.server"), rtype=wire.TXT, rclass=3),
    "hostname.bind": refused(name=wire.encode_name("hostname.bind"), rtype=wire.TXT, rclass=3),
    "id.server": refused(name=wire.encode_name("id.server"), rtype=wire.TXT, rclass=3),
    "the root": refused(name=b"\0", rtype=wire.NS),
    "the zone above": refused(name=wire.encode_name("local"), rtype=wire.NS),
    "a name of others": refused(name=wire.encode_name("www.example.com")),
    "a name that ends in our bytes": refused(name=b"\x11xclusterset\5local" + b"\0"),
    "AXFR": refused(name=wire.encode_name("clusterset.local"), rtype=wire.AXFR),
    "AXFR of a name inside": refused(rtype=wire.AXFR),
    "IXFR": refused(name=wire.encode_name("clusterset.local"), rtype=wire.IXFR),
    "IXFR with its SOA": Case(
        packet(question(rtype=wire.IXFR), SOA, counts=(1, 0, 1, 0)), answer(wire.REFUSED, question(rtype=wire.IXFR))
    ),
    "AXFR with EDNS": Case(
        packet(question(rtype=wire.AXFR), opt(), counts=ONE_OPT),
        answer(wire.REFUSED, question(rtype=wire.AXFR), edns=True),
    ),
}


@pytest.mark.parametrize("case", CLASSES.values(), ids=CLASSES)
def test_a_packet_of_this_class_gets_exactly_this(case: Case) -> None:
    for tcp in (False, True):
        for _ in range(2):
            assert SERVER.respond(case.packet, tcp, CLIENT) == case.answer
    # Nothing comes back that is longer than what came: the header at least had to come.
    assert len(case.answer or b"") <= max(len(case.packet), 12)


@pytest.mark.parametrize(
    ("name", "rtype", "authority"),
    [("web.shop.svc", rtype, True) for rtype in (0, 3, 10, 99, 128, 248, 253, 254, 256, 1000, 65280, 65535)]
    + [("nope.shop.svc", rtype, True) for rtype in (0, 10, 253, 254, 1000, 65535)],
)
def test_an_unknown_type_has_no_data_and_no_other_name(name: str, rtype: int, authority: bool) -> None:
    asked = question(wire.encode_name(f"{name}.clusterset.local"), rtype)
    expected = wire.NXDOMAIN if name.startswith("nope") else wire.NOERROR

    for tcp in (False, True):
        response = SERVER.respond(packet(asked), tcp, CLIENT)

        assert response is not None
        assert response[2:12] == wire.header(wire.QR | wire.AA | expected, 0, 1, 0)
        assert response[12 : 12 + len(asked)] == asked


MALFORMED = [title for title, case in CLASSES.items() if case.answer is None or case.answer[3] & 15 in (1, 4)]


@pytest.mark.parametrize("title", MALFORMED)
def test_what_is_malformed_is_so_before_the_first_state_too(title: str) -> None:
    server: Responder = UNSYNCED
    case = CLASSES[title]
    # This server has no cookies and heeds nobody's subnet: what is in those options is no concern of it.
    if not title.startswith(("cookie of", "client subnet")):
        assert server.respond(case.packet, False, CLIENT) == case.answer
