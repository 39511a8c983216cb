"""Zones of one's own: how they are written, and what stands at their top."""

import dns.rrset
import pytest

from isthmus_core.errors import InvalidInput
from isthmus_dns.message import wire
from isthmus_dns.zone.apex import NameServer, ZoneSpec, mailbox_name, parse_zone
from unit.nameserver.builders import ask, responder, service, shown

OWN = "fed.example.com"


def lines(section: list[dns.rrset.RRset]) -> list[str]:
    return [line for rrset in section for line in rrset.to_text().splitlines()]


def test_a_zone_is_written_with_its_name_servers_and_their_addresses() -> None:
    written = f"{OWN}=ns1.{OWN}@192.0.2.1@2001:db8::1, ns2.example.net"
    servers = (NameServer(f"ns1.{OWN}", ("192.0.2.1", "2001:db8::1")), NameServer("ns2.example.net"))
    assert parse_zone(written) == ZoneSpec(OWN, servers)
    assert parse_zone("Fed.Example.com.") == ZoneSpec("Fed.Example.com.")
    # One that ends like the zone, and is not inside it, needs no address.
    assert parse_zone(f"{OWN}=ns.not{OWN}").name_servers[0].addresses == ()


def test_name_servers_and_their_addresses_may_be_kept_for_long_and_services_not() -> None:
    spec = parse_zone(f"{OWN}=ns1.{OWN}@192.0.2.1@2001:db8::1,ns2.example.net")
    server = responder(service("shop/web"), specs=(ZoneSpec(), spec))
    response = ask(server, OWN, "NS")
    assert lines(response.answer) == [f"{OWN}. 3600 IN NS ns1.{OWN}.", f"{OWN}. 3600 IN NS ns2.example.net."]
    glue = [f"ns1.{OWN}. 3600 IN A 192.0.2.1", f"ns1.{OWN}. 3600 IN AAAA 2001:db8::1"]
    assert lines(response.additional) == glue
    assert lines([*ask(server, f"ns1.{OWN}").answer, *ask(server, f"ns1.{OWN}", "AAAA").answer]) == glue
    assert lines(ask(server, f"web.shop.svc.{OWN}").answer) == [f"web.shop.svc.{OWN}. 5 IN A 10.1.2.3"]
    # Without a name server that somebody named there is nothing to be kept.
    assert ask(server, "clusterset.local", "NS").answer[0].ttl == 5
    assert shown(ask(server, f"www.{OWN}")) == "NXDOMAIN"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dns.team@example.com", b"\x08dns.team\7example\3com\0"),
        ("hostmaster.example.com", b"\x0ahostmaster\7example\3com\0"),
    ],
)
def test_a_mail_address_becomes_the_name_that_stands_for_it(text: str, name: bytes) -> None:
    assert mailbox_name(text) == name


@pytest.mark.parametrize(
    "text", ["@example.com", "a@", "a b@example..com", "é@example.com", "x" * 64 + "@example.com", ""]
)
def test_what_is_no_mail_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        mailbox_name(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a DNS name"),
        (".", "root cannot be a zone"),
        ("fed example", "not a DNS name"),
        ("-fed.example", "not a DNS name"),
        ("f" * 64, "not a DNS name"),
        (f"{OWN}=", "without a name"),
        (f"{OWN}=ns1.{OWN}", "without its address"),
        (f"{OWN}={OWN}", "without its address"),
        (f"{OWN}=@192.0.2.1", "without a name"),
        (f"{OWN}=2001:db8::1", "without a name"),
        (f"{OWN}=ns1.{OWN}@192.0.2.256", "not an IP address"),
        (f"{OWN}=ns1.{OWN}@192.0.2.1,,", "without a name"),
    ],
)
def test_a_zone_that_cannot_be_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_zone(text)


def test_names_of_zones_are_compared_without_case() -> None:
    server = responder(service("shop/web"), specs=(parse_zone("Fed.Example.com"),))
    assert shown(ask(server, "web.shop.svc.fed.example.COM")) == "NOERROR | A 10.1.2.3"
    assert wire.encode_name("Fed.Example.com") == server.zone.apexes[0].origin
