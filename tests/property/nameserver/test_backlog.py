"""A zone that is known but not compiled yet answers everybody as it will when it is compiled."""

import dns.edns
import dns.name
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus_dns.answering.answer import Responder
from isthmus_dns.zone.apex import ZoneSpec
from isthmus_dns.zone.backlog import Backlog
from isthmus_dns.zone.intake import apply_header, apply_services, mark
from isthmus_dns.zone.zone import Zone
from isthmus_sync.proto import isthmus_pb2 as pb
from property.nameserver.fuzz_servers import CLIENT, FEATURES, NOW, ZONES, endpoint
from unit.nameserver.builders import HTTP, METRICS, header, headless, host, near, question, resources, service

INSIDE = (ZoneSpec(), ZoneSpec("shop.svc.clusterset.local"))
SPECS = st.sampled_from([ZONES, INSIDE])
LONG = headless("shop/long", [host(f"10.4.{n >> 8}.{n & 255}", f"h-{n}") for n in range(120)])

names = st.builds("{}/{}".format, st.sampled_from(["shop", "svc", "n" * 63]), st.sampled_from(["web", "svc", "w" * 63]))
refused = st.sampled_from(
    [
        service("lost/web", ["10.0.0.256"]),
        service("lost/db", [], [pb.ServicePort(name="p" * 63, port=1)]),
        service("shop/Web"),
        headless("lost/set", [host("10.0.0.1", "h", "x" * 64)]),
    ]
)
services = st.one_of(
    st.builds(service, names, st.sampled_from([("10.0.0.1",), ("10.0.0.1", "fd00::1"), ()]), st.just((HTTP, METRICS))),
    st.builds(headless, names, st.sampled_from([(), (host("10.0.0.1", "h-0"), host("10.0.0.2"))])),
    st.builds(near, names, st.just((endpoint("10.9.0.1", "east"), endpoint("10.8.0.1", "west", "gcp", "us-east1", 1)))),
    st.just(LONG),
    refused,
)
zones = st.lists(services, max_size=8, unique_by=lambda one: (one.namespace, one.name))
ELSEWHERE = (
    "example.com.",
    "clusterset.local.",
    "svc.clusterset.local.",
    "lost.svc.clusterset.local.",
    "nope.svc.fed.example.com.",
)


def known(specs: tuple[ZoneSpec, ...]) -> Responder:
    """A server that has heard the header, and awaits services."""
    zone = Zone(specs, places=FEATURES.subnets.places)
    assert apply_header(zone, {"zone": header()}) == {}
    mark(zone, True, False)
    server = Responder(zone, FEATURES)
    server.tick(NOW)
    return server


def names_of(whole: Zone) -> list[dns.name.Name]:
    """The names of the zone, one below each, and some that are not there; the short ones first."""
    found = {dns.name.from_wire(name, 0)[0] for name in whole.names} | set(map(dns.name.from_text, ELSEWHERE))
    found |= {dns.name.Name((b"nope", *name.labels)) for name in found if len(name.to_wire() or b"") < 250}
    # What these tell is about the whole zone: how many services it has, those that will be refused too.
    found -= {dns.name.from_text(f"_why.{spec.origin}") for spec in (*ZONES, *INSIDE)}
    return sorted(found, key=len)


FORMS: tuple[tuple[int | None, list[dns.edns.Option]], ...] = (
    (None, []),
    (1232, []),
    (1232, [dns.edns.ECSOption("10.2.0.0", 16)]),
)
asked = st.tuples(
    st.one_of(st.integers(0, 30), st.integers(0, 500)),
    st.sampled_from(["A", "SRV", "TXT", "ANY"]),
    st.sampled_from(FORMS),
    st.booleans(),
    st.integers(0, 2),
)


@settings(max_examples=60, deadline=None)
@given(SPECS, zones, st.lists(asked, max_size=25))
def test_who_asks_before_a_zone_is_compiled_has_the_answer_of_the_compiled_one(
    specs: tuple[ZoneSpec, ...],
    state: list[pb.ZoneService],
    questions: list[tuple[int, str, tuple[int | None, list[dns.edns.Option]], bool, int]],
) -> None:
    bodies = resources(state)
    compiled, early = known(specs), known(specs)
    reasons = apply_services(compiled.zone, bodies, ())
    backlog = Backlog(early.zone, bodies)
    steps = (None for part in backlog.parts() for _ in backlog.taking(part))
    names = names_of(compiled.zone)

    for which, rtype, (edns, options), tcp, turn in questions:
        if turn == 0:
            next(steps, None)
        packet = question(str(names[which % len(names)]), rtype, edns, id=7, options=options).to_wire()
        assert early.respond(packet, tcp, CLIENT) == compiled.respond(packet, tcp, CLIENT)
    for _ in steps:
        pass

    assert backlog.refused == reasons
    assert early.zone.backlog is None
    for table in ("ready", "long", "names", "tailored", "reasons"):
        assert getattr(early.zone, table) == getattr(compiled.zone, table)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"", b"\3svc", b"\4shop\3svc", b"\3\xff\0a\4shop\3svc"]), st.booleans())
def test_whatever_is_asked_for_settles_or_does_nothing(head: bytes, middle: bytes, ours: bool) -> None:
    zone = Zone(INSIDE)
    backlog = Backlog(zone, resources([service("shop/web")]))

    backlog.settle(head + middle + (zone.apexes[-1].origin if ours else b""))

    assert len(zone) == 1
