"""A zone that is known but not compiled yet takes in what is asked for first, and no more than that."""

import pytest

from isthmus_dns.answering.answer import Responder
from isthmus_dns.zone.backlog import Backlog
from isthmus_dns.zone.intake import apply_header, mark
from isthmus_dns.zone.zone import Zone
from unit.nameserver.builders import ask, header, resources, responder, service, shown

OTHERS = [service(f"other/web-{n}") for n in range(100)]
LOST = service("lost/web", ["nonsense"])


def known() -> tuple[Responder, Backlog]:
    zone = Zone()
    backlog = Backlog(zone, resources([LOST, *OTHERS, service("shop/web")]))
    assert apply_header(zone, {"zone": header()}) == {}
    mark(zone, True, False)
    return Responder(zone), backlog


@pytest.mark.parametrize("edns", [None, 1232])  # the first query with EDNS takes the slow way
@pytest.mark.parametrize(
    ("name", "rtype", "taken"),
    [
        ("web.shop.svc", "A", 1),
        ("web.shop.svc", "ANY", 1),
        ("_http._tcp.web.shop.svc", "SRV", 1),
        ("_tcp.web.shop.svc", "A", 1),
        ("nope.web.shop.svc", "A", 1),
        ("shop.svc", "A", 1),
        ("svc", "A", 2),  # the first one is refused
        ("lost.svc", "A", 1),
        ("web.lost.svc", "A", 1),
        ("nope.shop.svc", "A", 0),
        ("nope.svc", "A", 0),
        ("nope", "A", 0),
        ("web.shop.cvs", "A", 0),
    ],
)
def test_a_question_takes_in_what_its_answer_needs(name: str, rtype: str, taken: int, edns: int | None) -> None:
    whole = responder(*OTHERS, service("shop/web"))
    server, backlog = known()
    waiting = len(backlog)

    assert shown(ask(server, f"{name}.clusterset.local", rtype, edns)) == shown(
        ask(whole, f"{name}.clusterset.local", rtype, edns)
    )

    assert waiting - len(backlog) == taken


def test_it_counts_all_its_services_from_the_beginning() -> None:
    server, backlog = known()
    assert len(server.zone) == 102
    for part in backlog.parts():
        assert list(backlog.taking(part)) == []
    assert len(server.zone) == 101
    assert list(backlog.refused) == ["lost/web"]
