"""Names and ids: what is accepted, and the sentence for what is not."""

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_core.names import Locality, ServiceName, parse_cluster_id, parse_port_name


@pytest.mark.parametrize("text", ["a", "west", "aws-eu-1", "1a", "a" * 63])
def test_a_lower_case_dns_label_is_a_cluster_id(text: str) -> None:
    assert parse_cluster_id(text) == text


@pytest.mark.parametrize("text", ["", "West", "-a", "a-", "a.b", "a_b", "a" * 64, "a\n", "ä", "a b"])
def test_anything_else_is_refused_with_the_name_and_the_mend(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_cluster_id(text)
    assert repr(text) in str(caught.value)
    assert "1 to 63 lower-case letters" in caught.value.mend


@pytest.mark.parametrize("text", ["", "http", "a", "web-1", "a23456789012345"])
def test_port_names_follow_rfc_6335(text: str) -> None:
    assert parse_port_name(text) == text


@pytest.mark.parametrize("text", ["80", "HTTP", "a--b", "-a", "a-", "a234567890123456", "a_b"])
def test_other_port_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="port name"):
        parse_port_name(text)


def test_a_service_has_one_dns_name_everywhere() -> None:
    service = ServiceName.parse("shop/echo")
    assert service.host() == "echo.shop.svc.clusterset.local"
    assert service.authority(80) == "echo.shop.svc.clusterset.local:80"
    assert str(service) == "shop/echo"


@pytest.mark.parametrize("text", ["echo", "/echo", "shop/", "shop/1echo", "Shop/echo", "shop/echo/x", "shop/e.cho"])
def test_a_service_without_a_proper_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        ServiceName.parse(text)


def test_a_locality_has_three_parts() -> None:
    assert Locality.parse("aws/eu-west-1/a") == Locality("aws", "eu-west-1", "a")


@pytest.mark.parametrize("text", ["aws", "aws/eu", "aws//a", "aws/eu/a/b", "aws/eu/", "/eu/a"])
def test_a_malformed_locality_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match="aws/eu-west-1/a"):
        Locality.parse(text)


@pytest.mark.parametrize(("text", "part"), [("aws/e u/a", "e u"), ("aws/eu/-a", "-a"), ("a/b/" + "c" * 64, "ccc")])
def test_of_three_parts_the_one_that_is_no_name_is_named(text: str, part: str) -> None:
    with pytest.raises(InvalidInput, match=f"has a part '{part}"):
        Locality.parse(text)
