"""SPIFFE ids and who they stand for."""

import pytest

from isthmus_core.errors import InvalidInput, Refused
from isthmus_core.spiffe import (
    Role,
    SpiffeId,
    admin_id,
    cluster_of,
    controller_id,
    gateway_id,
    identify,
    parse_domain,
    parse_member_id,
)


@pytest.mark.parametrize(
    ("text", "trust_domain", "path"),
    [
        ("spiffe://fed.example/controller", "fed.example", "/controller"),
        ("SPIFFE://fed.example/a/B-_.9", "fed.example", "/a/B-_.9"),
        ("spiffe://a.fed.example", "a.fed.example", ""),
        ("spiffe://under_score/...", "under_score", "/..."),
        ("spiffe://" + "d" * 255, "d" * 255, ""),
    ],
)
def test_an_id_has_a_trust_domain_and_a_path(text: str, trust_domain: str, path: str) -> None:
    assert SpiffeId.parse(text) == SpiffeId(trust_domain, path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:/a/b",
        "https://fed.example/a",
        "spiffe://",
        "spiffe:///path",
        "spiffe://Fed.example/a",
        "spiffe://fed.example:443/a",
        "spiffe://user@fed.example/a",
        "spiffe://fed.example/a?q",
        "spiffe://fed.example/a#f",
        "spiffe://fed.example?q",
        "spiffe://fed.example/",
        "spiffe://fed.example/a/",
        "spiffe://fed.example//a",
        "spiffe://fed.example/.",
        "spiffe://fed.example/a/../b",
        "spiffe://fed.example/%61",
        "spiffe://fed.example/ä",
        "spiffe://fed.example/a\n",
        " spiffe://fed.example/a",
        "spiffe://" + "d" * 256,
        "spiffe://fed.example/" + "a" * 2048,
    ],
)
def test_what_breaks_a_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        SpiffeId.parse(text)


def test_2048_bytes_are_accepted() -> None:
    text = "spiffe://fed.example/"
    assert str(SpiffeId.parse(text + "a" * (2048 - len(text))))[:9] == "spiffe://"


def test_members_are_known_by_their_id() -> None:
    domain = "fed.example"
    assert identify(controller_id(domain), domain).role is Role.CONTROLLER
    admin = identify(admin_id("jo", domain), domain)
    assert (admin.role, admin.admin, admin.cluster) == (Role.ADMIN, "jo", None)
    gateway = identify(gateway_id("a", domain), domain)
    assert (gateway.role, gateway.cluster, gateway.trust_domain) == (Role.GATEWAY, "a", "a.fed.example")


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://fed.example",
        "spiffe://fed.example/gateway",
        "spiffe://fed.example/admin",
        "spiffe://fed.example/admin/a/b",
        "spiffe://fed.example/controller/x",
        "spiffe://a.fed.example",
        "spiffe://a.fed.example/controller",
        "spiffe://a.fed.example/admin/x",
        "spiffe://a.b.fed.example/gateway",
        "spiffe://afed.example/gateway",
        "spiffe://controller.fed.example/gateway",
        "spiffe://other.example/controller",
    ],
)
def test_everybody_else_is_no_member(text: str) -> None:
    with pytest.raises(Refused):
        identify(SpiffeId.parse(text), "fed.example")


def test_a_domain_is_folded_to_lower_case_and_loses_its_final_dot() -> None:
    assert parse_domain("Fed.Example.") == "fed.example"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fed_1.example", "underscore"),
        ("", "not a DNS name"),
        ("fed..example", "not a DNS name"),
        ("-fed.example", "not a DNS name"),
        ("fed example", "not a DNS name"),
        ("10.0.0.1", "not a DNS name"),
        ("https://fed.example", "not a DNS name"),
        (".".join(["a" * 60] * 4), "characters"),
    ],
)
def test_a_domain_that_cannot_be_used_is_refused_with_the_reason(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        parse_domain(text)


def test_a_cluster_may_not_take_the_name_of_the_controllers() -> None:
    with pytest.raises(InvalidInput, match="reserved"):
        parse_member_id("controller")
    assert cluster_of("controller.fed.example", "fed.example") is None
