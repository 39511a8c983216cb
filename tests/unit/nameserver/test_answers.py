"""What the zone says: every name shape of MCS DNS 1.0.0, every type, every state."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from isthmus_dns.zone.apex import NameServer, ZoneSpec
from isthmus_dns.zone.intake import apply_header, apply_services, mark
from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import (
    HTTP,
    METRICS,
    SERIAL,
    ask,
    header,
    headless,
    host,
    resources,
    responder,
    service,
    shown,
)

WEB = service("shop/web", ["10.1.2.3", "fd00::3"], [HTTP, METRICS, pb.ServicePort(port=7000, protocol=pb.UDP)])
DB = headless(
    "shop/db",
    [
        host("10.9.0.1", "db-0", "east"),
        host("10.9.0.2", "db-1", "east"),
        host("fd00::9", "db-0", "west"),
        host("10.9.0.4", "", "west"),
    ],
)
EMPTY = headless("shop/queue", [])
ZONE = "clusterset.local"
TARGET = f"web.shop.svc.{ZONE}."

TABLE = [
    # name, type, code and answers
    ("web.shop.svc", "A", "NOERROR | A 10.1.2.3"),
    ("web.shop.svc", "AAAA", "NOERROR | AAAA fd00::3"),
    ("web.shop.svc", "SRV", f"NOERROR | SRV 0 100 80 {TARGET} | SRV 0 100 9090 {TARGET}"),
    ("_http._tcp.web.shop.svc", "SRV", f"NOERROR | SRV 0 100 80 {TARGET}"),
    ("_metrics._tcp.web.shop.svc", "SRV", f"NOERROR | SRV 0 100 9090 {TARGET}"),
    ("_http._tcp.web.shop.svc", "A", "NOERROR"),
    ("_http._udp.web.shop.svc", "SRV", "NXDOMAIN"),
    ("_tcp.web.shop.svc", "SRV", "NOERROR"),
    ("_udp.web.shop.svc", "SRV", "NXDOMAIN"),
    ("web.shop.svc", "TXT", "NOERROR"),
    ("web.shop.svc", "MX", "NOERROR"),
    ("web.shop.svc", "HTTPS", "NOERROR"),
    ("web.shop.svc", "SVCB", "NOERROR"),
    ("web.shop.svc", "TYPE97", "NOERROR"),
    ("web.shop.svc", "TYPE65280", "NOERROR"),
    ("web.shop.svc", "DS", "NOERROR"),
    ("web.shop.svc", "CNAME", "NOERROR"),
    ("web.shop.svc", "ANY", r'NOERROR | HINFO "RFC8482" ""'),
    ("_tcp.web.shop.svc", "ANY", "NOERROR"),
    ("web.shop.svc", "AXFR", "REFUSED"),
    ("web.shop.svc", "IXFR", "REFUSED"),
    # MCS DNS 2.3.4: no name that picks out one cluster of a service with a clusterset IP.
    ("east.web.shop.svc", "A", "NXDOMAIN"),
    ("nope.shop.svc", "A", "NXDOMAIN"),
    ("web.nope.svc", "A", "NXDOMAIN"),
    ("nope.web.shop.svc", "A", "NXDOMAIN"),
    ("shop.svc", "A", "NOERROR"),
    ("svc", "A", "NOERROR"),
    ("dns", "A", "NOERROR"),
    ("ns.dns", "A", "NOERROR"),
    ("dns-version", "TXT", 'NOERROR | TXT "1.0.0"'),
    ("dns-version", "A", "NOERROR"),
    ("db.shop.svc", "A", "NOERROR | A 10.9.0.1 | A 10.9.0.2 | A 10.9.0.4"),
    ("db.shop.svc", "AAAA", "NOERROR | AAAA fd00::9"),
    ("db-0.east.db.shop.svc", "A", "NOERROR | A 10.9.0.1"),
    ("db-0.west.db.shop.svc", "AAAA", "NOERROR | AAAA fd00::9"),
    ("db-0.west.db.shop.svc", "A", "NOERROR"),
    ("10-9-0-4.west.db.shop.svc", "A", "NOERROR | A 10.9.0.4"),
    ("east.db.shop.svc", "A", "NOERROR"),
    ("north.db.shop.svc", "A", "NXDOMAIN"),
    ("db-9.east.db.shop.svc", "A", "NXDOMAIN"),
    ("_tcp.db.shop.svc", "A", "NOERROR"),
    # MCS DNS 2.4.1: a headless service without a ready endpoint does not exist.
    ("queue.shop.svc", "A", "NXDOMAIN"),
    ("_http._tcp.queue.shop.svc", "SRV", "NXDOMAIN"),
]


@pytest.mark.parametrize("edns", [None, 512, 1232, 4096], ids=str)
@pytest.mark.parametrize(("name", "rtype", "expected"), TABLE, ids=[f"{name}-{rtype}" for name, rtype, _ in TABLE])
def test_a_question_gets_the_answer_of_the_table(name: str, rtype: str, expected: str, edns: int | None) -> None:
    server = responder(WEB, DB, EMPTY)

    response = ask(server, f"{name}.{ZONE}", rtype, edns)

    assert shown(response) == expected
    refused = expected == "REFUSED"
    assert bool(response.flags & dns.flags.AA) is not refused
    negative = not response.answer and not refused
    assert [rrset.rdtype.name for rrset in response.authority] == (["SOA"] if negative else [])
    assert (response.edns == 0) is (edns is not None)


def test_srv_of_a_headless_service_names_every_ready_endpoint() -> None:
    response = ask(responder(DB), f"_http._tcp.db.shop.svc.{ZONE}", "SRV")

    targets = {(rdata.port, str(rdata.target)) for rdata in response.answer[0]}
    suffix = f"db.shop.svc.{ZONE}."
    assert targets == {
        (80, f"db-0.east.{suffix}"),
        (80, f"db-1.east.{suffix}"),
        (80, f"db-0.west.{suffix}"),
        (80, f"10-9-0-4.west.{suffix}"),
    }
    helped = {f"{rrset.name} {rdata}" for rrset in response.additional for rdata in rrset}
    assert f"db-0.west.{suffix} fd00::9" in helped
    assert f"db-1.east.{suffix} 10.9.0.2" in helped


def test_the_bare_name_has_each_srv_record_once() -> None:
    """Two ports with one number (TCP and UDP) are one record there: clients in use ask the bare name."""
    both = [
        pb.ServicePort(name="dns", port=53, protocol=pb.UDP),
        pb.ServicePort(name="dns-tcp", port=53, protocol=pb.TCP),
    ]
    server = responder(service("net/resolver", ports=both))

    assert len(ask(server, f"resolver.net.svc.{ZONE}", "SRV").answer[0]) == 1
    assert len(ask(server, f"_dns._udp.resolver.net.svc.{ZONE}", "SRV").answer[0]) == 1


def test_an_srv_answer_carries_the_addresses_of_its_target() -> None:
    response = ask(responder(WEB), f"_http._tcp.web.shop.svc.{ZONE}", "SRV", None)

    assert {f"{rrset.name} {rdata}" for rrset in response.additional for rdata in rrset} == {
        f"{TARGET} 10.1.2.3",
        f"{TARGET} fd00::3",
    }


def test_names_are_compared_without_case_and_given_back_as_asked() -> None:
    server = responder(WEB)
    asked = "wEb.SHop.sVC.cLUSTERset.LOCAL."

    for rtype in ("A", "SRV", "TXT", "ANY"):
        response = ask(server, asked, rtype)
        assert response.question[0].name.to_text() == asked


def test_negative_answers_live_no_longer_than_the_soa_says() -> None:
    response = ask(responder(), f"nope.{ZONE}")

    soa = response.authority[0]
    assert soa.ttl == min(soa.ttl, soa[0].minimum) == 5
    assert str(soa.name) == f"{ZONE}."
    assert soa[0].serial == SERIAL


def test_a_removed_service_leaves_nothing_and_takes_nothing_with_it() -> None:
    server = responder(WEB, DB, service("shop/other"))
    apply_services(server.zone, {}, ["shop/web", "shop/db", "shop/never-was"])

    assert shown(ask(server, f"web.shop.svc.{ZONE}")) == "NXDOMAIN"
    assert shown(ask(server, f"_tcp.web.shop.svc.{ZONE}")) == "NXDOMAIN"
    assert shown(ask(server, f"east.db.shop.svc.{ZONE}")) == "NXDOMAIN"
    assert shown(ask(server, f"shop.svc.{ZONE}")) == "NOERROR"
    assert shown(ask(server, f"other.shop.svc.{ZONE}")) == "NOERROR | A 10.1.2.3"

    apply_services(server.zone, {}, ["shop/other"])
    assert shown(ask(server, f"svc.{ZONE}")) == "NXDOMAIN"
    assert not [name for name in server.zone.names if b"\4shop" in name]


def test_a_service_that_changes_its_kind_keeps_no_old_name() -> None:
    server = responder(DB)
    apply_services(server.zone, resources([service("shop/db")]), ())

    assert shown(ask(server, f"db.shop.svc.{ZONE}")) == "NOERROR | A 10.1.2.3"
    assert shown(ask(server, f"db-0.east.db.shop.svc.{ZONE}")) == "NXDOMAIN"
    assert shown(ask(server, f"db.shop.svc.{ZONE}", "AAAA")) == "NOERROR"


def test_the_serial_never_goes_back() -> None:
    server = responder()
    for told, expected in ((200, 200), (150, 200), (200, 200), (201, 201)):
        apply_header(server.zone, {"zone": header(told)})
        assert ask(server, ZONE, "SOA").answer[0][0].serial == expected
        assert ask(server, f"nope.{ZONE}").authority[0][0].serial == expected


def test_a_wrong_service_is_refused_alone_and_its_last_answers_stay() -> None:
    server = responder(WEB)
    bad = service("shop/web", ["10.1.2.300"])
    refused = apply_services(server.zone, resources([bad, service("shop/new", ["10.5.5.5"])]), ())

    assert refused == {"shop/web": "'10.1.2.300' is not an IP address"}
    assert shown(ask(server, f"web.shop.svc.{ZONE}")) == "NOERROR | A 10.1.2.3"
    assert shown(ask(server, f"new.shop.svc.{ZONE}")) == "NOERROR | A 10.5.5.5"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xff", "is not a ZoneService message"),
        (service("shop/other").SerializeToString(), "says that it is shop/other"),
        (service("shop/web", ports=[pb.ServicePort(name="x", port=70000)]).SerializeToString(), "70000"),
        (service("shop/web", ports=[pb.ServicePort(name="X!", port=7)]).SerializeToString(), "port name 'X!'"),
        (headless("shop/web", [host("10.0.0.1", "a_b")]).SerializeToString(), "'a_b' is not a DNS label"),
        (headless("shop/web", [host("10.0.0.1", "h" * 63, "c" * 63)]).SerializeToString(), ""),
    ],
)
def test_what_cannot_be_a_service_is_refused_with_a_reason(body: bytes, reason: str) -> None:
    refused = apply_services(responder().zone, {"shop/web": body}, ())

    assert reason in refused.get("shop/web", "")


def test_names_longer_than_255_octets_are_refused() -> None:
    long = "n" * 63
    body = headless(f"{long}/{long}", [host("10.0.0.1", "h" * 63, "c" * 63)]).SerializeToString()

    assert "longer than 255" in apply_services(responder().zone, {f"{long}/{long}": body}, ())[f"{long}/{long}"]


def test_before_the_first_full_state_every_question_gets_servfail_with_the_reason() -> None:
    server = responder(WEB, synced=False)

    for name in (f"web.shop.svc.{ZONE}", f"nope.{ZONE}", "example.com"):
        response = ask(server, name)
        assert response.rcode() == dns.rcode.SERVFAIL
        assert [int(option.code) for option in response.options if isinstance(option, dns.edns.EDEOption)] == [14]
        assert not response.flags & dns.flags.AA
    assert ask(server, f"web.shop.svc.{ZONE}", edns=None).rcode() == dns.rcode.SERVFAIL

    mark(server.zone, True, False)
    server.freshen()
    assert shown(ask(server, f"web.shop.svc.{ZONE}")) == "NOERROR | A 10.1.2.3"


def test_a_stale_zone_answers_on_and_says_so_to_those_who_understand() -> None:
    server = responder(WEB)
    name = f"web.shop.svc.{ZONE}"
    assert ask(server, name).options == ()

    mark(server.zone, True, True)
    server.freshen()
    for asked in (name, f"nope.{ZONE}", name):
        response = ask(server, asked)
        assert [int(option.code) for option in response.options if isinstance(option, dns.edns.EDEOption)] == [3]
    assert shown(ask(server, name, edns=None)) == "NOERROR | A 10.1.2.3"

    mark(server.zone, True, False)
    server.freshen()
    assert ask(server, name).options == ()


def test_a_zone_of_ones_own_has_name_servers_with_glue() -> None:
    own = ZoneSpec("fed.example.com", (NameServer("ns1.fed.example.com", ("192.0.2.1", "2001:db8::1")),))
    server = responder(WEB, specs=(ZoneSpec(), own))

    assert shown(ask(server, "web.shop.svc.fed.example.com")) == "NOERROR | A 10.1.2.3"
    assert shown(ask(server, f"web.shop.svc.{ZONE}")) == "NOERROR | A 10.1.2.3"
    assert shown(ask(server, "ns1.fed.example.com")) == "NOERROR | A 192.0.2.1"
    assert shown(ask(server, "example.com")) == "REFUSED"
    apex = ask(server, "fed.example.com", "NS")
    assert shown(apex) == "NOERROR | NS ns1.fed.example.com."
    assert {str(rdata) for rrset in apex.additional for rdata in rrset} == {"192.0.2.1", "2001:db8::1"}
    assert str(ask(server, "nope.fed.example.com").authority[0].name) == "fed.example.com."


def test_a_zone_below_another_answers_for_its_own_names() -> None:
    server = responder(WEB, specs=(ZoneSpec("example.com"), ZoneSpec("fed.example.com")))

    assert str(ask(server, "nope.fed.example.com").authority[0].name) == "fed.example.com."
    assert str(ask(server, "nope.example.com").authority[0].name) == "example.com."
    assert shown(ask(server, "com")) == "REFUSED"


def test_an_origin_in_the_middle_of_a_label_is_not_ours() -> None:
    name = b"\x14abc\x0aclusterset\x05local" + b"\0"
    query = b"\0\1\0\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"

    response = responder(WEB).respond(query)

    assert response is not None
    assert response[3] & 15 == dns.rcode.REFUSED
