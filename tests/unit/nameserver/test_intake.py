"""How changes are taken in: in which bits, with which serial, and what is known to be refused."""

import pytest

from isthmus_dns.zone.intake import apply_services, bits, refusal, with_serial
from isthmus_dns.zone.zone import Zone
from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import ask, header, headless, host, resources, responder, service, shown


def test_a_small_change_is_one_bit_and_a_large_one_many() -> None:
    assert bits({}) == []
    few = resources(service(f"shop/s{n}") for n in range(10))
    assert bits(few) == [few]

    many = resources(service(f"shop/s{n}") for n in range(1000))
    found = bits(many)
    assert len(found) > 10
    assert {name: body for bit in found for name, body in bit.items()} == many


def test_a_service_with_many_endpoints_is_a_bit_of_its_own() -> None:
    heavy = resources(headless(f"shop/h{n}", [host(f"10.{n}.{e}.1", f"h-{e}") for e in range(200)]) for n in range(5))
    assert max(map(len, bits(heavy))) <= 3


def test_a_header_says_the_serial_that_it_is_given() -> None:
    assert with_serial(header(7), 7) == header(7)
    assert with_serial(header(7, cluster="west", stale=True), 9) == header(9, cluster="west", stale=True)


@pytest.mark.parametrize("ips", [["10.1.2.3"], ["10.1.2.3", "fd00::3"], [f"10.0.0.{n}" for n in range(40)]])
def test_a_service_that_changes_its_kind_leaves_nothing_of_the_old_one(ips: list[str]) -> None:
    kinds = [service("shop/web", ips), headless("shop/web", [host("10.9.0.1", "web-0")]), service("shop/web", ["::1"])]
    server = responder()
    for one in [*kinds, *reversed(kinds)]:
        assert apply_services(server.zone, resources([one]), ()) == {}
        fresh = responder(one).zone
        assert (server.zone.ready, server.zone.long, server.zone.names) == (fresh.ready, fresh.long, fresh.names)


def test_what_is_refused_leaves_the_last_good_answers() -> None:
    server = responder(service("shop/web"))
    bad = resources([service("shop/web", ["nonsense"])])

    assert refusal("shop/web", bad["shop/web"], Zone()) == "'nonsense' is not an IP address"
    assert apply_services(server.zone, bad, ()) == {"shop/web": "'nonsense' is not an IP address"}
    assert shown(ask(server, "web.shop.svc.clusterset.local")) == "NOERROR | A 10.1.2.3"


def test_a_body_that_is_no_message_is_refused() -> None:
    assert refusal("shop/web", b"\xff", Zone()) == "zone service 'shop/web' is not a ZoneService message"
    assert refusal("shop/web", b"", Zone()) is not None
    assert refusal("shop/web", pb.ZoneService().SerializeToString(), Zone()) is not None
