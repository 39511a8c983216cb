"""Answers to clients with a cookie are remembered, too: only for them, and only as long as they are true."""

import dns.edns
import dns.message
import pytest

from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.remembered import Remembered, question_of
from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.cookies import Cookies, Standing
from isthmus_dns.zone.intake import apply_header, apply_services
from unit.nameserver.builders import header, question, resources, responder, service

NAME = "web.shop.svc.clusterset.local"
NOW = 1_700_000_030
CLIENT, OTHER = "192.0.2.1", "192.0.2.2"
COOKIES = Cookies(bytes(range(16)))


def server() -> Responder:
    found = responder(service("shop/web"), features=Features(cookies=COOKIES))
    found.tick(NOW)
    return found


def cookie(client: str = CLIENT, now: int = NOW) -> bytes:
    return COOKIES.judge(b"theirown", client, now)[1]


def asked(whole: bytes, name: str = NAME, number: int = 7) -> bytes:
    return question(
        name, "A", 1232, id=number, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, whole)]
    ).to_wire()


def given(response: bytes | None) -> bytes:
    """The cookie of a response."""
    assert response is not None
    (option,) = dns.message.from_wire(response).options
    return option.to_wire() or b""


def learned(packet: bytes) -> Responder:
    found = server()
    for _ in range(4):
        found.respond(packet, False, CLIENT)
    assert len(found.remembered.proven) == 1
    return found


def test_the_remembered_answer_is_that_of_the_slow_way_with_every_id() -> None:
    found = learned(asked(cookie()))
    for number in (1, 7, 65535):
        packet = asked(cookie(), number=number)
        assert found.respond(packet, False, CLIENT) == found.respond_slowly(packet, False, CLIENT)


def test_who_sends_the_same_packet_from_elsewhere_gets_a_cookie_of_his_own() -> None:
    packet = asked(cookie())
    found = learned(packet)
    assert given(found.respond(packet, False, CLIENT)) == cookie()
    assert given(found.respond(packet, False, OTHER)) == cookie(OTHER) != cookie()


def test_a_change_of_the_answer_or_of_its_freshness_ends_it() -> None:
    packet = asked(cookie())
    found = learned(packet)
    apply_services(found.zone, resources([service("shop/web", ["10.9.9.9"])]), ())
    assert not found.remembered.proven
    assert found.respond(packet, False, CLIENT) == found.respond_slowly(packet, False, CLIENT)

    found = learned(packet)
    apply_header(found.zone, {"zone": header(101)})
    assert len(found.remembered.proven) == 1, "an answer with addresses does not tell the serial"
    found.freshen()
    assert not found.remembered.proven


@pytest.mark.parametrize("later", [60, 61, 119, 86_400, -5])
def test_it_ends_after_a_minute_whichever_seconds_the_clock_was_looked_at(later: int) -> None:
    packet = asked(cookie())
    found = learned(packet)
    found.tick(NOW + 59)
    assert len(found.remembered.proven) == 1
    found.tick(NOW + later)
    assert not found.remembered.proven
    assert found.respond(packet, False, CLIENT) == found.respond_slowly(packet, False, CLIENT)


def test_an_old_cookie_is_renewed_although_it_was_remembered() -> None:
    old = cookie(now=NOW - 1799)
    found = learned(asked(old))
    assert given(found.respond(asked(old), False, CLIENT)) == old
    for second in range(1, 62):
        found.tick(NOW + second)
    renewed = given(found.respond(asked(old), False, CLIENT))
    assert renewed != old
    assert COOKIES.judge(renewed, CLIENT, NOW + 61) == (Standing.VERIFIED, renewed)


def test_what_is_asked_for_is_known_from_packets_with_and_without_options() -> None:
    key = b"\3web\4shop\3svc\x0aclusterset\5local\0\0\1\0\1"
    for packet in (asked(cookie()), question(NAME, "A", 1232).to_wire(), question(NAME, "A", None).to_wire()):
        assert question_of(packet[2:]) == key
    found = learned(asked(cookie()))
    found.take_asked()
    for _ in range(5):
        found.respond(asked(cookie()), False, CLIENT)
    assert found.take_asked() == {key: 5}


def test_memory_is_bounded_and_a_bad_cookie_takes_none() -> None:
    memory = Remembered(answers_kept=10)
    for number in range(25):
        for _ in range(3):
            memory.note_proven(b"%d" % number, CLIENT, b"question", b"answer")
    assert len(memory.proven) == 5
    memory.forget([b"question"])
    assert memory.proven == {}

    found = server()
    for _ in range(4):
        found.respond(asked(cookie()[:-1] + b"?"), False, CLIENT)
        found.respond(asked(cookie()[:8]), False, CLIENT)
    assert not found.remembered.proven
    assert not found.proves_address(asked(cookie()[:-1] + b"?"), CLIENT)


def test_a_proven_address_is_proven_for_itself_alone() -> None:
    packet = asked(cookie())
    found = server()
    for _ in range(3):
        assert found.proves_address(packet, CLIENT)
        assert not found.proves_address(packet, OTHER)
        found.respond(packet, False, CLIENT)
