"""Cookies, server ids, subnets: the EDNS options that a client may ask with."""

import dns.edns
import dns.message
import dns.rcode
import pytest

from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.cookies import Cookies, Standing
from isthmus_dns.clients.subnet import parse_networks, read_subnet
from isthmus_dns.message import wire
from unit.nameserver.builders import ask, question, responder, service, shown

NAME = "web.shop.svc.clusterset.local"
NOW = 1_700_000_000
THEIRS = bytes.fromhex("2464c4abcf10c957")


def server(**features: object) -> Responder:
    found = responder(service("shop/web"), features=Features(**features))  # type: ignore[arg-type]
    found.tick(NOW)
    return found


def with_cookie(cookie: bytes) -> bytes:
    option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
    return question(NAME, "A", 1232, options=[option]).to_wire()


def cookie_of(response: bytes | None) -> bytes:
    assert response is not None
    message = dns.message.from_wire(response)
    (found,) = [option for option in message.options if option.otype == dns.edns.OptionType.COOKIE]
    return found.to_wire() or b""


@pytest.mark.parametrize(
    ("length", "malformed"), [(7, True), (8, False), (9, True), (15, True), (16, False), (40, False), (41, True)]
)
def test_a_cookie_has_eight_bytes_of_the_client_and_eight_to_32_of_a_server(length: int, malformed: bool) -> None:
    standing, _ = Cookies(bytes(16)).judge(bytes(length), "192.0.2.1", NOW)  # RFC 7873, section 4
    assert (standing is Standing.MALFORMED) == malformed


def test_a_server_cookie_is_that_of_rfc_9018_appendix_a() -> None:
    cookies = Cookies(bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf"))

    standing, whole = cookies.judge(THEIRS, "198.51.100.100", 1559731985)

    assert standing is Standing.UNKNOWN
    assert whole.hex() == "2464c4abcf10c957010000005cf79f111f8130c3eee29480"
    # Appendix A.2: half an hour and more later the same client gets a fresh one.
    standing, renewed = cookies.judge(whole, "198.51.100.100", 1559734385)
    assert standing is Standing.VERIFIED
    assert renewed.hex() == "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Standing.VERIFIED),
        ({"client": "192.0.2.2"}, Standing.UNKNOWN),
        ({"now": NOW + 3601}, Standing.UNKNOWN),
        ({"now": NOW - 301}, Standing.UNKNOWN),
        ({"now": NOW - 200}, Standing.VERIFIED),
    ],
)
def test_a_cookie_is_good_for_its_client_and_its_hour(change: dict[str, object], expected: Standing) -> None:
    cookies = Cookies(b"s" * 16)
    whole = cookies.judge(THEIRS, "192.0.2.1", NOW)[1]
    asked: dict[str, object] = {"client": "192.0.2.1", "now": NOW} | change

    assert cookies.judge(whole, str(asked["client"]), int(str(asked["now"])))[0] is expected
    assert Cookies(b"t" * 16).judge(whole, "192.0.2.1", NOW)[0] is Standing.UNKNOWN
    assert cookies.judge(whole[:-1] + b"\0", "192.0.2.1", NOW)[0] is Standing.UNKNOWN


def test_a_client_gets_a_cookie_and_then_takes_the_fast_way_with_it() -> None:
    under_test = server(cookies=Cookies(b"s" * 16))
    whole = cookie_of(under_test.respond(with_cookie(THEIRS), False, "192.0.2.1"))
    assert whole[:8] == THEIRS

    for _ in range(3):
        response = under_test.respond(with_cookie(whole), False, "192.0.2.1")
        assert cookie_of(response) == whole
        assert shown(dns.message.from_wire(response or b"")) == "NOERROR | A 10.1.2.3"
    slow = sum(under_test.outcomes.values())
    assert slow == 2
    # Another client with the same bytes is another client.
    assert cookie_of(under_test.respond(with_cookie(whole), False, "192.0.2.2")) != whole
    assert under_test.proves_address(with_cookie(whole), "192.0.2.1")
    assert not under_test.proves_address(with_cookie(whole), "192.0.2.2")
    assert not under_test.proves_address(question(NAME).to_wire(), "192.0.2.1")


@pytest.mark.parametrize("length", [0, 1, 7, 9, 15, 41])
def test_a_cookie_of_a_wrong_length_is_a_format_error(length: int) -> None:
    response = server(cookies=Cookies(b"s" * 16)).respond(with_cookie(b"c" * length), False, "192.0.2.1")

    assert dns.message.from_wire(response or b"").rcode() == dns.rcode.FORMERR


def test_a_query_without_a_question_may_ask_for_a_cookie() -> None:
    query = b"\0\1\0\0\0\0\0\0\0\0\0\1" + wire.opt_record(0, False, wire.option(wire.OPTION_COOKIE, THEIRS))

    assert len(cookie_of(server(cookies=Cookies(b"s" * 16)).respond(query, False, "192.0.2.1"))) == 24
    response = server().respond(query, False, "192.0.2.1")
    assert response is not None
    assert response[3] & 15 == wire.FORMERR


def test_without_a_secret_cookies_are_ignored() -> None:
    response = dns.message.from_wire(server().respond(with_cookie(THEIRS), False, "192.0.2.1") or b"")

    assert response.options == ()


def test_the_server_says_its_id_to_those_who_ask() -> None:
    nsid = dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")
    under_test = server(server_id="dns-7")

    response = ask(under_test, NAME, options=[nsid])
    assert [getattr(option, "nsid", None) for option in response.options] == [b"dns-7"]
    assert ask(under_test, NAME).options == ()
    assert ask(server(), NAME, options=[nsid]).options == ()


def test_a_subnet_is_honoured_from_named_resolvers_only() -> None:
    subnet = dns.edns.ECSOption("192.0.2.0", 24)
    query = question(NAME, "A", 1232, options=[subnet]).to_wire()
    under_test = server(subnet_resolvers=parse_networks(["198.51.100.0/24"]))

    named = dns.message.from_wire(under_test.respond(query, False, "198.51.100.9") or b"")
    assert [(o.address, o.srclen, o.scopelen) for o in named.options if isinstance(o, dns.edns.ECSOption)] == [
        ("192.0.2.0", 24, 0)
    ]
    assert dns.message.from_wire(under_test.respond(query, False, "203.0.113.9") or b"").options == ()


@pytest.mark.parametrize(
    "body", ["", "0001", "00011801c00002", "00011800c000", "00032000", "00012100c0000201", "00011700c00003"]
)
def test_a_malformed_subnet_is_none(body: str) -> None:
    assert read_subnet(bytes.fromhex(body)) is None


def test_a_subnet_is_read() -> None:
    assert str(read_subnet(bytes.fromhex("00011800c00002"))) == "192.0.2.0/24"
    assert str(read_subnet(bytes.fromhex("0002380020010db8000000"))) == "2001:db8::/56"
    assert str(read_subnet(bytes.fromhex("00010000"))) == "0.0.0.0/0"
