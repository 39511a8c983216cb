"""Random changes of zones, random bytes and random questions against the rules that no answer may break."""

import dns.message
import dns.name
import dns.rcode
import dns.zone
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus_dns.answering.answer import Responder
from isthmus_dns.zone.intake import apply_header, apply_services, mark
from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import SERIAL, header, headless, host, question, resources, responder, service

ORIGIN = dns.name.from_text("clusterset.local.")

labels = st.sampled_from(["a", "b", "web", "db", "x" * 63])
clusters = st.sampled_from(["east", "west"])
ports = st.lists(
    st.builds(
        pb.ServicePort,
        name=st.sampled_from(["", "http", "grpc"]),
        port=st.integers(1, 65535),
        protocol=st.sampled_from([pb.TCP, pb.UDP]),
    ),
    max_size=3,
    unique_by=lambda port: (port.name, port.protocol),
)
fours = st.sampled_from([f"10.0.0.{n}" for n in range(9)])
sixes = st.sampled_from([f"fd00::{n}" for n in range(9)])
hosts = st.lists(
    st.builds(
        host,
        st.one_of(fours, sixes),
        st.sampled_from(["", "h-0", "h-1"]),
        clusters,
        ports,
    ),
    max_size=12,
)
names = st.builds("{}/{}".format, st.sampled_from(["a", "shop"]), labels)
services = st.one_of(
    st.builds(service, names, st.one_of(st.tuples(fours), st.tuples(sixes), st.tuples(fours, sixes)), ports),
    st.builds(headless, names, hosts),
)


def rendered(zone: list[pb.ZoneService]) -> dns.zone.Zone:
    """The zone by dnspython, from text: nothing of ours takes part."""
    lines = [
        f"@ 5 IN SOA ns.dns hostmaster {SERIAL} 7200 1800 86400 5",
        "@ 5 IN NS ns.dns",
        'dns-version 5 IN TXT "1.0.0"',
    ]
    for one in zone:
        base = f"{one.name}.{one.namespace}.svc"
        if one.type == pb.CLUSTER_SET_IP:
            lines += [f"{base} 5 IN {'AAAA' if ':' in ip else 'A'} {ip}" for ip in one.ips]
            targets = [(port, base) for port in one.ports]
        else:
            targets = []
            for each in one.hosts:
                kind = "AAAA" if ":" in each.address else "A"
                dashed = (
                    "fd00-" + "0000-" * 6 + f"000{each.address[-1]}"
                    if kind == "AAAA"
                    else each.address.replace(".", "-")
                )
                target = f"{each.hostname or dashed}.{each.cluster}.{base}"
                lines += [f"{base} 5 IN {kind} {each.address}", f"{target} 5 IN {kind} {each.address}"]
                targets += [(port, target) for port in each.ports]
        for port, target in targets:
            if port.name:
                proto = "udp" if port.protocol == pb.UDP else "tcp"
                rdata = f"5 IN SRV 0 100 {port.port} {target}"
                lines += [f"_{port.name}._{proto}.{base} {rdata}", f"{base} {rdata}"]
    return dns.zone.from_text("\n".join(lines), origin=ORIGIN, relativize=False)


def questions(zone: dns.zone.Zone) -> set[dns.name.Name]:
    """Every name of the zone, everything above and something below each."""
    found = {ORIGIN}
    for name in zone.nodes:
        while name != ORIGIN:
            found |= {name, name.parent()}
            if len(name.to_wire() or b"") < 240:
                found |= {dns.name.Name((b"nope", *name.labels)), dns.name.Name((b"nope", *name.parent().labels))}
            name = name.parent()
    return found


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(services, max_size=3, unique_by=lambda one: (one.namespace, one.name)), min_size=1, max_size=5)
)
def test_a_zone_after_any_changes_is_the_zone_built_at_once(states: list[list[pb.ZoneService]]) -> None:
    server = responder()
    before: dict[str, bytes] = {}
    for state in states:
        now = resources(state)
        assert apply_services(server.zone, now, before.keys() - now.keys()) == {}
        before = now

    fresh = responder(*states[-1]).zone
    assert server.zone.ready == fresh.ready
    assert server.zone.long == fresh.long
    assert server.zone.names == fresh.names


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.lists(services, max_size=3, unique_by=lambda one: (one.namespace, one.name)), min_size=2, max_size=5),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
)
def test_no_answer_outlives_the_change_that_ended_it(states: list[list[pb.ZoneService]], hows: list[int]) -> None:
    server = responder()
    names = {name for state in states for name in questions(rendered(state)) if len(name.to_wire() or b"") < 200}
    packets = [
        question(str(name), rtype, edns, id=7).to_wire()
        for name in names
        for rtype in ("A", "SRV")
        for edns in (None, 1232)
    ]
    before: dict[str, bytes] = {}
    for serial, (state, how) in enumerate(zip(states, hows, strict=False), SERIAL + 1):
        for packet in packets * 3:  # seen, remembered, found
            server.respond(packet)
        now = resources(state)
        assert apply_services(server.zone, now, before.keys() - now.keys()) == {}
        before = now
        if how & 1:
            assert apply_header(server.zone, {"zone": header(serial)}) == {}
        if how & 2:
            mark(server.zone, True, not server.zone.freshness.stale)
            server.freshen()
        for packet in packets:
            assert server.respond(packet) == server.respond_slowly(packet)


SERVER = responder(
    service("shop/web", ["10.1.2.3", "fd00::3"]),
    headless("shop/db", [host(f"10.0.0.{n}", f"db-{n}") for n in range(40)]),
)
UNSYNCED = responder(service("shop/web"), synced=False)
SEEDS = [
    question(name, rtype, edns, id=7).to_wire()
    for name in (
        "web.shop.svc.clusterset.local",
        "nope.clusterset.local",
        "db.shop.svc.clusterset.local",
        "example.com",
    )
    for rtype in ("A", "SRV", "ANY", "AXFR", "TXT")
    for edns in (None, 512, 4096)
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good query with some bytes changed, cut off or added."""
    packet = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(packet)))
    return bytes(packet[:cut] if draw(st.booleans()) else packet) + draw(st.binary(max_size=3))


def check_rules(server: Responder, packet: bytes) -> None:
    response = server.respond(packet)
    if response is None:
        assert len(packet) < 12 or packet[2] & 0x80
        return
    assert response[:2] == packet[:2]
    assert response[2] & 0x80
    assert response[2] & 0x78 == packet[2] & 0x78
    assert len(response) <= 1232
    message = dns.message.from_wire(response)  # also: nothing that we send is malformed
    if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        reason = 60 if message.options else 0
        assert len(response) <= max(len(packet), 12) + reason


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=600), mutated()))
def test_no_packet_raises_or_is_amplified(packet: bytes) -> None:
    check_rules(SERVER, packet)
    check_rules(UNSYNCED, packet)
    SERVER.respond(packet, True)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 2**32 - 1))
def test_case_of_letters_changes_nothing_but_the_question(seed: bytes, coins: int) -> None:
    end = seed.index(b"\0", 12)
    cased = bytearray(seed)
    for at in range(12, end):
        if chr(seed[at]).isalpha() and coins >> (at % 32) & 1:
            cased[at] = seed[at] ^ 0x20
    plain, odd = SERVER.respond(seed), SERVER.respond(bytes(cased))

    assert plain is not None
    assert odd is not None
    assert odd[12:end] == bytes(cased[12:end])
    assert odd[:12] + plain[12:end] + odd[end:] == plain


@settings(max_examples=300, deadline=None)
@given(mutated(), st.booleans(), st.booleans())
def test_the_fast_way_and_the_slow_way_agree(packet: bytes, tcp: bool, synced: bool) -> None:
    server = SERVER if synced else UNSYNCED
    for _ in range(4):  # the slow way teaches the fast one, and what came twice is remembered
        assert server.respond(packet, tcp, "192.0.2.1") == server.respond_slowly(packet, tcp, "192.0.2.1")


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(
        ["web.shop.svc", "db.shop.svc", "_http._tcp.db.shop.svc", "shop.svc", "nope", "_why", "east.db.shop.svc"]
    ),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.booleans(),
    st.booleans(),
)
def test_both_ways_agree_on_every_type_and_size(name: str, rtype: int, size: int, do: bool, tcp: bool) -> None:
    for kind in (rtype, rtype % 70, 33, 1):
        query = dns.message.make_query(
            f"{name}.clusterset.local", "A", use_edns=0, payload=size, want_dnssec=do
        ).to_wire()
        end = query.index(b"\0", 12)
        packet = query[: end + 1] + kind.to_bytes(2, "big") + query[end + 3 :]
        for _ in range(4):
            assert SERVER.respond(packet, tcp, "192.0.2.1") == SERVER.respond_slowly(packet, tcp, "192.0.2.1")
