"""Whole answers over random zones of every shape, section by section, against zones that dnspython made from text.

Nothing of ours takes part in what is expected: the zone files are written here, and dnspython reads and compares them.
"""

import random
import struct

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from isthmus_dns.answering.answer import Responder
from isthmus_dns.zone.apex import NameServer, ZoneSpec
from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import SERIAL, responder

CLIENT = "192.0.2.1"
ASKED = 30
"""How many of a zone's questions are asked in each example."""
TYPES = ("A", "AAAA", "SRV", "TXT", "NS", "SOA", "HTTPS", "CNAME", "TYPE1000")
PROTOCOLS = {pb.PROTOCOL_UNSPECIFIED: "_tcp", pb.TCP: "_tcp", pb.UDP: "_udp", pb.SCTP: "_sctp"}
INSIDE = "fed.example.com"
SPECS = (
    ZoneSpec(),
    ZoneSpec(
        INSIDE,
        (NameServer(f"ns1.{INSIDE}", ("192.0.2.53", "fd00::53")), NameServer("ns.elsewhere.net")),
        "admin.example.com",
    ),
    ZoneSpec(f"deep.{INSIDE}"),
)
APEXES = {
    "clusterset.local.": ("ns.dns", "hostmaster", ["@ 5 NS ns.dns"]),
    f"{INSIDE}.": (
        "ns1",
        "admin.example.com.",
        ["@ 3600 NS ns1", "@ 3600 NS ns.elsewhere.net.", "ns1 3600 A 192.0.2.53", "ns1 3600 AAAA fd00::53"],
    ),
    f"deep.{INSIDE}.": ("ns.dns", "hostmaster", ["@ 5 NS ns.dns"]),
}

fours = st.integers(1, 9).map(lambda n: f"10.0.0.{n}")
sixes = st.integers(1, 9).map(lambda n: f"fd00::{n}")
ports = st.lists(
    st.builds(
        pb.ServicePort,
        name=st.sampled_from(["", "http", "grpc", "p" * 62]),
        port=st.integers(1, 65535),
        protocol=st.sampled_from(list(PROTOCOLS)),
    ),
    max_size=4,
    unique_by=lambda port: (port.name, PROTOCOLS[port.protocol]),
)
hosts = st.lists(
    st.builds(
        pb.ZoneHost,
        address=st.one_of(fours, sixes),
        hostname=st.sampled_from(["", "h-0", "h-1", "a.b", "h" * 63]),
        cluster=st.sampled_from(["east", "west"]),
        ports=ports,
    ),
    max_size=25,
)
services = st.builds(
    pb.ZoneService,
    namespace=st.sampled_from(["a", "shop", "svc"]),
    name=st.sampled_from(["a", "web", "db", "svc", "x" * 63]),
    type=st.sampled_from([pb.CLUSTER_SET_IP, pb.HEADLESS]),
    ports=ports,
    ips=st.one_of(fours.map(lambda a: [a]), sixes.map(lambda a: [a]), st.tuples(fours, sixes)),
    hosts=hosts,
    provenance=st.sampled_from([[], [pb.Provenance(cluster="east", rule="nearest")]]),
)
zones = st.lists(services, max_size=4, unique_by=lambda one: (one.namespace, one.name))


def dashed(address: str) -> str:
    """The name of an endpoint that has none."""
    return f"fd00-{'0000-' * 6}000{address[-1]}" if ":" in address else address.replace(".", "-")


def kind(address: str) -> str:
    """The type of an address record."""
    return "AAAA" if ":" in address else "A"


def lines_of(one: pb.ZoneService) -> list[str]:
    """The service's records in a zone file, by MCS DNS 1.0.0."""
    base = f"{one.name}.{one.namespace}.svc"
    targets: list[tuple[pb.ServicePort, str]] = []
    if one.type == pb.CLUSTER_SET_IP:
        lines = [f"{base} 5 {kind(ip)} {ip}" for ip in one.ips]
        targets = [(port, base) for port in one.ports]
    else:
        lines = []
        for host in one.hosts:
            target = f"{host.hostname or dashed(host.address)}.{host.cluster}.{base}"
            lines += [f"{owner} 5 {kind(host.address)} {host.address}" for owner in (base, target)]
            targets += [(port, target) for port in host.ports or one.ports]
    for port, target in targets:
        if port.name:
            rdata = f"5 SRV 0 100 {port.port} {target}"
            lines += [f"_{port.name}.{PROTOCOLS[port.protocol]}.{base} {rdata}", f"{base} {rdata}"]
    if lines and one.provenance:
        lines.append(f'_why.{base} 0 TXT "told when asked"')
    return lines


class Model:
    """What should be answered, by dnspython from zone files."""

    def __init__(self, services: list[pb.ZoneService]) -> None:
        self.zones = {}
        self.names: dict[dns.name.Name, set[dns.name.Name]] = {}
        for origin, (server, contact, lines) in APEXES.items():
            text = [f"@ 5 SOA {server} {contact} {SERIAL} 7200 1800 86400 5", *lines]
            text += ['dns-version 5 TXT "1.0.0"', '_why 0 TXT "told when asked"']
            text += [line for one in services for line in lines_of(one)]
            name = dns.name.from_text(origin)
            zone = dns.zone.from_text("\n".join(text), origin=name, relativize=False, rdclass=dns.rdataclass.IN)
            self.zones[name] = zone
            # A name server without an address owns nothing, but NS and SOA name it: so it exists.
            self.names[name] = {*zone.nodes, dns.name.from_text(server, name)}

    def origin_of(self, name: dns.name.Name) -> dns.name.Name | None:
        """The nearest zone that the name lies in."""
        found = [origin for origin in self.zones if name.is_subdomain(origin)]
        return max(found, key=len, default=None)

    def exists(self, name: dns.name.Name, origin: dns.name.Name) -> bool:
        """Whether the name is there, with records or only between others (RFC 8020). A zone below is of its own."""
        names = set(self.names[origin])
        names |= {other for other in self.names if other != origin and other.is_subdomain(origin)}
        return any(other.is_subdomain(name) for other in names)

    def rrset(self, name: dns.name.Name, rtype: str, origin: dns.name.Name) -> dns.rrset.RRset | None:
        """The records that stand there."""
        return self.zones[origin].get_rrset(name, dns.rdatatype.from_text(rtype))

    def questions(self) -> list[tuple[dns.name.Name, str]]:
        """Every name, everything above and something below each, with every type."""
        found: set[dns.name.Name] = {dns.name.from_text("example.net."), dns.name.from_text("com.")}
        for origin, names in self.names.items():
            for name in names:
                while name != origin:
                    found |= {name, name.parent()}
                    if len(name.to_wire() or b"") < 240:
                        found.add(dns.name.Name((b"nope", *name.labels)))
                    name = name.parent()
            found |= {origin, dns.name.Name((b"nope", *origin.labels)), origin.parent()}
        # What `_why` tells is computed when asked, and has tests of its own; that it exists is seen by other types.
        return [
            (name, rtype)
            for name in sorted(found)
            for rtype in TYPES
            if not (rtype == "TXT" and name.labels[0] == b"_why")
        ]


def check_whole(server: Responder, model: Model, name: dns.name.Name, rtype: str) -> bytes:
    """The answer over TCP, where nothing is cut, is the expected one in every section."""
    query = dns.message.make_query(name, rtype, use_edns=0, payload=1232, id=7)
    packet = server.respond(query.to_wire(), True, CLIENT)
    assert packet is not None
    answer = dns.message.from_wire(packet)
    origin = model.origin_of(name)
    assert (answer.edns, answer.payload, answer.options, answer.question) == (0, 1232, (), query.question)
    if origin is None:
        assert answer.rcode() == dns.rcode.REFUSED
        assert answer.flags & 0xFFF0 == dns.flags.QR | dns.flags.RD
        assert not answer.answer and not answer.authority and not answer.additional
        return packet
    assert answer.flags & 0xFFF0 == dns.flags.QR | dns.flags.AA | dns.flags.RD
    expected = model.rrset(name, rtype, origin)
    if expected is None:
        assert answer.rcode() == (dns.rcode.NOERROR if model.exists(name, origin) else dns.rcode.NXDOMAIN), name
        assert answer.answer == []
        assert answer.authority == [model.rrset(origin, "SOA", origin)]
        assert answer.additional == []
        return packet
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.answer == [expected], f"{name} {rtype}: {answer.answer} is not {expected}"
    assert answer.answer[0].ttl == expected.ttl
    assert answer.authority == []
    targets = [rdata.target for rdata in expected] if rtype in ("SRV", "NS") else []
    helpers = {
        (rrset.name, rrset.rdtype): rrset
        for target in targets
        for kind in ("A", "AAAA")
        if target.is_subdomain(origin) and (rrset := model.rrset(target, kind, origin)) is not None
    }
    assert {(rrset.name, rrset.rdtype): rrset for rrset in answer.additional} == helpers
    # Every record is written once and has lost and gained nothing: dnspython writes the same message.
    assert dns.message.from_wire(answer.to_wire()).sections == answer.sections
    counts = [int.from_bytes(packet[at : at + 2], "big") for at in (6, 8, 10)]
    assert counts == [*(sum(map(len, section)) for section in (answer.answer, answer.authority)), _count(helpers) + 1]
    return packet


def _count(rrsets: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset]) -> int:
    return sum(map(len, rrsets.values()))


def check_cuts(server: Responder, name: dns.name.Name, rtype: str, whole: bytes) -> None:
    """Over UDP the same is said as far as it fits: all, or without the additional section, or nothing with TC."""
    full = dns.message.from_wire(whole)
    helpers = sum(_written(rrset, full) for rrset in full.additional)
    flags, answers, authority, additional = struct.unpack("!H2x3H", whole[2:12])
    end = 12 + len(name.to_wire() or b"") + 4
    body, opt = whole[end:-11], whole[-11:]
    for payload in (None, 0, 512, 700, 1232, 4096):
        ours = b"" if payload is None else opt
        ends = struct.pack("!HHIH", 41, payload or 0, 0, 0)
        query = b"\0\7" + struct.pack("!5H", 0x0100, 1, 0, 0, len(ours) // 11) + whole[12:end] + b"\0" + ends
        limit = min(max(payload or 512, 512), 1232) - end - len(ours)
        if len(body) <= limit:
            expected = (flags, 1, answers, authority, additional - 1), body
        elif len(body) - helpers <= limit:
            expected = (flags, 1, answers, authority, 0), body[: len(body) - helpers]
        else:
            expected = (flags | dns.flags.TC, 1, 0, 0, 0), b""
        counts = (*expected[0][:4], expected[0][4] + len(ours) // 11)
        for _ in range(3):
            packet = server.respond(query if ours else query[:end], False, CLIENT)
            assert packet == whole[:2] + struct.pack("!5H", *counts) + whole[12:end] + expected[1] + ours


def _written(rrset: dns.rrset.RRset, message: dns.message.Message) -> int:
    """How many bytes the records of an additional set take: their owner ends in a pointer into the question."""
    question = message.question[0].name
    owner = rrset.name
    common = owner.fullcompare(question)[2]
    own = len(dns.name.Name(owner.labels[: len(owner) - common]).to_wire(None, None, dns.name.root) or b"") - 1
    return sum(own + 2 + 10 + len(rdata.to_wire() or b"") for rdata in rrset)


# Zones are large: there are fewer of them, with many questions each; shrinking would take longer than reading.
@settings(max_examples=settings().max_examples // 4, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(zones, st.randoms(use_true_random=False))
def test_every_section_of_every_answer_is_what_the_zone_file_says(
    services: list[pb.ZoneService], chance: random.Random
) -> None:
    server, model = responder(*services, specs=SPECS), Model(services)
    questions = model.questions()

    for name, rtype in chance.sample(questions, min(ASKED, len(questions))):
        whole = check_whole(server, model, name, rtype)
        check_cuts(server, name, rtype, whole)
