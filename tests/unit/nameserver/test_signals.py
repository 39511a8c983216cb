"""What the server tells about itself and its clients: provenance, heavy hitters, rate limits, dnstap, metrics."""

import struct

import dns.message
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.ratelimit import RateLimiter
from isthmus_dns.message import wire
from isthmus_dns.serving.server import Board
from isthmus_dns.serving.web import Numbers
from isthmus_dns.watching import dnstap
from isthmus_dns.watching.sketch import HeavyHitters, Hitter, merge_top
from isthmus_dns.watching.traffic import Report, Traffic, rcode_counts, type_counts
from isthmus_dns.zone.intake import apply_header, mark
from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import ask, header, question, responder, service, shown

NAME = "web.shop.svc.clusterset.local"
NOW = 1_700_000_000
EAST = pb.Provenance(cluster="east", rule="same region", observed_at_ms=(NOW - 3) * 1000)
WEST = pb.Provenance(
    cluster="west",
    rule="anywhere",
    tier=1,
    observed_at_ms=(NOW - 90) * 1000,
    confirmed_at_ms=(NOW - 20) * 1000,
    stale=True,
)


def texts(response: dns.message.Message) -> list[list[str]]:
    return [[part.decode() for part in rdata.strings] for rrset in response.answer for rdata in rrset]


def told(**header_fields: object) -> Responder:
    """A server at the time NOW whose gateway says this of itself."""
    server = responder(service("shop/web", provenance=[EAST, WEST]), features=Features(server_id="dns-7"))
    apply_header(server.zone, {"zone": header(120, "west", **header_fields)})  # type: ignore[arg-type]
    server.tick(NOW)
    return server


def why(server: Responder, name: str = NAME) -> list[dict[str, str]]:
    return [dict(text.split("=", 1) for text in record) for record in texts(ask(server, f"_why.{name}", "TXT"))]


def test_a_service_tells_which_clusters_are_behind_it() -> None:
    server = told(confirmed=True)

    response = ask(server, f"_why.{NAME}", "TXT")

    assert texts(response) == [
        ["cluster=east", "rule=same region", "tier=0", "via=vip", "age=0s", "changed=3s", "stale=no"],
        ["cluster=west", "rule=anywhere", "tier=1", "via=vip", "age=20s", "changed=90s", "stale=yes"],
    ]
    assert response.answer[0].ttl == 0
    assert shown(ask(server, f"_why.{NAME}", "A")) == "NOERROR"
    assert shown(ask(server, "_why.nope.shop.svc.clusterset.local", "TXT")) == "NXDOMAIN"
    assert shown(ask(server, "_why.shop.svc.clusterset.local", "TXT")) == "NXDOMAIN"


def test_what_nobody_confirms_grows_old() -> None:
    server = told(synced_at_ms=(NOW - 50) * 1000)
    assert [record["age"] for record in why(server)] == ["50s", "50s"]

    mark(server.zone, synced=True, feed_lost=True)
    assert [record["stale"] for record in why(server)] == ["yes", "yes"]

    gone = told(confirmed=True)
    gone.zone.feed_lost_at = NOW - 7
    assert [record["age"] for record in why(gone)] == ["7s", "20s"]


def test_a_service_that_nobody_can_serve_says_so() -> None:
    server = responder(service("shop/web", provenance=[pb.Provenance(rule="no cluster can serve it now")]))

    assert texts(ask(server, f"_why.{NAME}", "TXT")) == [["cluster=none", "rule=no cluster can serve it now"]]
    assert shown(ask(server, NAME)) == "NOERROR | A 10.1.2.3"


def test_a_zone_tells_who_answers_and_how_fresh_it_is() -> None:
    assert texts(ask(told(confirmed=True), "_why.clusterset.local", "TXT")) == [
        [
            *("server=dns-7", "cluster=west", "serial=120", "age=0s", "stale=no"),
            *("feed=connected", "controller=connected", "services=1"),
        ]
    ]
    away = told(synced_at_ms=(NOW - 5) * 1000)
    (zone,) = why(away, "clusterset.local")
    assert (zone["age"], zone["feed"], zone["controller"]) == ("5s", "connected", "lost")
    away.zone.feed_lost_at = NOW - 2
    (zone,) = why(away, "clusterset.local")
    assert (zone["age"], zone["feed"], zone["controller"]) == ("5s", "lost", "unknown")
    assert shown(ask(away, "_why.clusterset.local", "A")) == "NOERROR"


def key(name: str) -> bytes:
    return wire.encode_name(name) + b"\0\1\0\1"


def test_the_names_asked_for_most_are_found_among_noise_in_bounded_memory() -> None:
    hitters = HeavyHitters(size=50, window=10.0)
    hitters.tick(0.0)
    for batch in range(100):
        noise = {key(f"n{batch}-{n}.example"): 1.0 for n in range(50)}
        hitters.add({key("hot.example"): 20.0, key("warm.example"): 10.0} | noise)
    assert len(hitters._current) <= 100
    hitters.tick(10.0)

    first, second = hitters.top(2)
    assert (first.name, second.name) == ("hot.example.", "warm.example.")
    # Too low by at most n / size: 8,000 questions and 50 places.
    assert (2000 - 160) / 10 <= first.per_second <= 200
    assert merge_top([[first], [first, second]], 1) == [Hitter(2 * first.per_second, "hot.example.", "A")]


def test_questions_of_both_ways_are_counted() -> None:
    server = responder(service("shop/web"))
    for name in (NAME, NAME.upper(), "nope.clusterset.local"):
        ask(server, name)
    ask(server, NAME, "ANY")
    ask(server, "example.com")

    assert sorted(server.take_asked().values()) == [1, 1, 2]
    assert server.take_asked() == {}


def test_a_prefix_over_its_rate_gets_every_second_answer_cut_and_others_all() -> None:
    limiter = RateLimiter(rate=10, slip=2)
    server = responder(service("shop/web"))
    query = question(NAME, "A", 1232).to_wire()
    response = server.respond(query)
    assert response is not None

    def sent(client: str) -> bytes | None:
        bucket = limiter.buckets.get(client) or limiter.bucket(client)
        bucket[0] -= 1
        return response if bucket[0] >= 0 else limiter.over(bucket, client, query, response)

    assert [sent(f"203.0.113.{n}") for n in range(10)] == [response] * 10
    over = [sent("203.0.113.99") for _ in range(10)]
    assert over.count(None) == 5
    cut = dns.message.from_wire(next(answer for answer in over if answer))
    assert cut.flags & 0x0200
    assert not cut.answer
    assert all(len(answer) <= len(query) for answer in over if answer)
    assert [sent("198.51.100.1") for _ in range(10)] == [response] * 10
    assert [sent("10.1.1.1") for _ in range(100)] == [response] * 100
    limiter.tick()
    assert sent("203.0.113.99") == response


def test_a_client_with_a_good_cookie_is_not_limited() -> None:
    limiter = RateLimiter(rate=0, proven=lambda packet, client: client == "203.0.113.1")
    for client, expected in (("203.0.113.1", b"x" * 20), ("203.0.113.2", None)):
        bucket = limiter.bucket(client)
        bucket[0] = -1
        assert limiter.over(bucket, client, b"", b"x" * 20) == expected


def test_a_dnstap_frame_is_protobuf_that_says_who_asked_what() -> None:
    frame = dnstap.data_frame(dnstap.AUTH_QUERY, b"me", b"packet", "192.0.2.1", 5353, False, 1_700_000_000_000_000_007)
    (length,) = struct.unpack_from("!I", frame)
    assert length == len(frame) - 4
    fields = decoded(frame[4:])
    assert fields[1] == b"me"
    assert fields[15] == 1
    message = decoded(bytes(fields[14]))
    assert message == {1: 1, 2: 1, 3: 1, 4: b"\xc0\0\2\1", 6: 5353, 8: 1_700_000_000, 9: 7, 10: b"packet"}


def test_a_dnstap_receiver_must_accept_our_content() -> None:
    ours = struct.pack("!III", dnstap.ACCEPT, 1, 22) + dnstap.CONTENT_TYPE
    assert dnstap.accepts(ours)
    assert not dnstap.accepts(struct.pack("!I", dnstap.ACCEPT))
    assert not dnstap.accepts(struct.pack("!III", dnstap.ACCEPT, 1, 5) + b"other")
    assert not dnstap.accepts(b"")


def decoded(body: bytes) -> dict[int, int | bytes]:
    """A flat protobuf message by field number."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            octet = body[at]
            at += 1
            value |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                return value

    found: dict[int, int | bytes] = {}
    while at < len(body):
        tag = varint()
        if tag & 7 == 0:
            found[tag >> 3] = varint()
        elif tag & 7 == 2:
            length = varint()
            found[tag >> 3] = body[at : at + length]
            at += length
        else:
            found[tag >> 3] = int.from_bytes(body[at : at + 4], "little")
            at += 4
    return found


def test_response_codes_add_up_to_the_answers() -> None:
    traffic = Traffic()
    traffic.batch("udp", requests=10, answered=9, unsent=0, octets=900, seconds=0.001)
    traffic.batch("tcp", requests=1, answered=1, unsent=0, octets=100, seconds=0.001)

    assert rcode_counts(traffic, nxdomain=2, outcomes={3: 1, 5: 2}) == {"NXDOMAIN": 3, "REFUSED": 2, "NOERROR": 5}


def test_requests_are_counted_by_family_size_and_type() -> None:
    traffic = Traffic()
    traffic.batch("udp", 10, 10, 0, 900, 0.001, asked=450, six=True)
    traffic.batch("udp", 4, 4, 0, 400, 0.001, asked=1200)
    assert (traffic.udp.requests, traffic.udp.requests_six) == (14, 10)
    assert traffic.udp.request_sizes.total == 1650
    assert traffic.udp.request_sizes.counts[:4] == [10, 0, 0, 4], "of 45 and of 300 octets"

    types: dict[str, float] = {}
    for rtype, times in ((1, 2.5), (1, 1.0), (28, 3.0), (65280, 4.0), (65281, 1.0)):
        type_counts(types, {b"\1a\0" + rtype.to_bytes(2, "big") + b"\0\1": times})
    assert types == {"A": 3.5, "AAAA": 3.0, "other": 5.0}


def report(**fields: object) -> Report:
    told: dict[str, object] = {"traffic": Traffic(), "rcodes": {}, "connected": True, "synced": True}
    told |= {"stale": False, "services": 1, "serial": 1, "refused": 0}
    return Report(**(told | fields))  # type: ignore[arg-type]


def test_readiness_names_the_worker_and_what_it_lacks() -> None:
    board = Board(2)
    board.take("0", report())
    board.take("1", report(synced=False, connected=False))

    assert board.readiness.missing() == {"worker 1": "has no full state of the zone yet"}
    assert board.readiness.warnings() == {"feed of worker 1": "the gateway's agent is away"}
    board.take("1", report(stale=True))
    assert board.readiness.missing() == {}
    assert "stale" in board.readiness.warnings()["freshness of worker 1"]
    board.take("1", None)
    assert board.readiness.missing() == {"worker 1": "ended, is started again"}


@pytest.mark.parametrize(
    "name",
    [
        "requests_total",
        "requests_by_type_total",
        "request_size_bytes_bucket",
        "responses_total",
        "request_duration_seconds_bucket",
        "response_size_bytes_bucket",
        "synced",
        "stale",
        "serial",
        "services",
        "tcp_connections",
        "rate_limited_total",
        "worker_restarts_total",
    ],
)
def test_metrics_have_the_names_that_are_documented(name: str) -> None:
    board = Board(1)
    board.take("0", report(rcodes={"NOERROR": 3}, types={"A": 2.6}))
    registry = CollectorRegistry()
    registry.register(Numbers(board.collect))

    assert f"isthmus_dns_{name}{{" in generate_latest(registry).decode() or name.endswith("restarts_total")


@pytest.mark.parametrize("clusters", [1, 600, 1500, 5000])
def test_why_of_many_clusters_tells_as_many_as_a_message_takes(clusters: int) -> None:
    sources = [pb.Provenance(cluster=f"cluster-{n:04d}", rule="same region", tier=n) for n in range(clusters)]
    server = responder(service("shop/web", provenance=sources))
    query = question(f"_why.{NAME}", "TXT", 1232).to_wire()

    packet = server.respond(query, True, "127.0.0.1")
    assert packet is not None
    assert len(packet) <= 65_535
    response = dns.message.from_wire(packet)
    assert not response.flags & dns.flags.TC
    told = texts(response)
    if clusters > 600:
        left_out = told.pop()
        assert left_out == [f"omitted={clusters - len(told)}"]
        assert len(packet) > 63_000, "no cluster is left out for which there is room"
    else:
        assert len(told) == clusters
    assert [record[0] for record in told] == [f"cluster=cluster-{n:04d}" for n in range(len(told))]

    over_udp = server.respond(query, False, "127.0.0.1")
    assert over_udp is not None
    assert bool(dns.message.from_wire(over_udp).flags & dns.flags.TC) == (clusters > 1)
