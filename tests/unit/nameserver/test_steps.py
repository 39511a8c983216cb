"""A long service is taken in step by step: none is long, and nobody sees a part of it."""

from collections.abc import Iterable

import pytest

from isthmus_core.names import Locality
from isthmus_dns.answering.unusual import Features
from isthmus_dns.zone.intake import apply_services, applying_services
from isthmus_dns.zone.zone import Zone
from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import HTTP, METRICS, ask, headless, host, near, resources, responder, shown

MANY = 1000
NAME = "db.shop.svc.clusterset.local"


def hosts(numbers: Iterable[int]) -> list[pb.ZoneHost]:
    return [host(f"10.9.{n >> 8}.{n & 255}", f"db-{n}", ("east", "west")[n & 1], [HTTP, METRICS]) for n in numbers]


def near_hosts(numbers: Iterable[int]) -> list[pb.ZoneHost]:
    found = [host(f"10.9.{n >> 8}.{n & 255}", "", f"c{n % 3}") for n in numbers]
    for n, one in enumerate(found):
        one.tier = n % 3
        one.locality.CopyFrom(pb.Locality(provider="aws", region=f"r{n % 3}", zone="a"))
    return found


LONG = {
    "headless": lambda numbers: headless("shop/db", hosts(numbers)),
    "endpoints": lambda numbers: near("shop/db", near_hosts(numbers)),
}
PLACES = (Locality("aws", "r1", "a"), Locality("aws", "r2", "a"))


@pytest.mark.parametrize("kind", LONG)
def test_between_the_steps_of_a_change_everybody_is_answered_from_before_it(kind: str) -> None:
    server = responder(LONG[kind](range(MANY)))
    before = dict(server.zone.ready), dict(server.zone.long), dict(server.zone.names)
    steps = applying_services(server.zone, resources([LONG[kind](range(1, MANY))]), ())

    paused = 0
    for _ in steps:
        paused += 1
        assert (server.zone.ready, server.zone.long, server.zone.names) == before

    assert paused > 5
    after = responder(LONG[kind](range(1, MANY))).zone
    assert (server.zone.ready, server.zone.long, server.zone.names) == (after.ready, after.long, after.names)


@pytest.mark.parametrize("kind", LONG)
def test_a_change_that_is_left_half_way_changes_nothing(kind: str) -> None:
    server = responder(LONG[kind](range(MANY)))
    steps = applying_services(server.zone, resources([LONG[kind](range(1, MANY))]), ())
    next(steps)
    steps.close()
    assert len(ask(server, NAME, "A", tcp=True).answer[0]) == (MANY if kind == "headless" else 334)


def test_what_depends_on_the_clients_place_changes_in_the_same_breath() -> None:
    zone = Zone(places=PLACES)
    assert apply_services(zone, resources([LONG["endpoints"](range(MANY))]), ()) == {}
    before = dict(zone.tailored)
    assert before
    for _ in applying_services(zone, resources([LONG["endpoints"](range(3, MANY))]), ()):
        assert zone.tailored == before
    fresh = Zone(places=PLACES)
    assert apply_services(fresh, resources([LONG["endpoints"](range(3, MANY))]), ()) == {}
    assert zone.tailored == fresh.tailored != before


def test_a_long_service_that_is_refused_keeps_its_answers_and_the_next_one_goes_on() -> None:
    server = responder(headless("shop/db", hosts(range(MANY))), features=Features())
    wrong = headless("shop/db", [*hosts(range(MANY)), host("not an address")])
    changed = resources([wrong, headless("shop/cache", hosts(range(3)))])
    assert list(apply_services(server.zone, changed, ())) == ["shop/db"]
    assert len(ask(server, NAME, "A", tcp=True).answer[0]) == MANY
    assert shown(ask(server, "db-1.west.cache.shop.svc.clusterset.local")) == "NOERROR | A 10.9.0.1"


@pytest.mark.parametrize("kind", LONG)
def test_no_step_takes_in_much_more_than_a_hundred_endpoints(kind: str) -> None:
    """Counted rather than timed: ten times the endpoints are about ten times the steps."""

    def steps(count: int) -> int:
        return sum(1 for _ in applying_services(Zone(), resources([LONG[kind](range(count))]), ()))

    assert steps(10 * MANY) > 6 * steps(MANY)
