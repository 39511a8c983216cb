"""A cluster writes only its own keys, and each refusal says why."""

import pytest

from isthmus_controller.registry import Rejected, Wish, validate
from isthmus_controller.store.keys import EndpointsKey, ExportKey, GatewayKey
from isthmus_core.names import ClusterId, ServiceName
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb

A = ClusterId("a")
ECHO = ServiceName("shop", "echo")
ZONE = pb.Locality(provider="aws", region="eu", zone="a")


def an_export(**changes: object) -> pb.Export:
    good: dict[str, object] = {
        "schema": 1,
        "namespace": "shop",
        "name": "echo",
        "cluster": "a",
        "ports": [pb.ServicePort(name="http", port=80)],
    }
    return pb.Export(**(good | changes))  # type: ignore[arg-type]


def a_capacity(**changes: object) -> pb.Capacity:
    good: dict[str, object] = {"schema": 1, "namespace": "shop", "name": "echo", "cluster": "a"}
    return pb.Capacity(**(good | changes))  # type: ignore[arg-type]


def a_gateway(**changes: object) -> bytes:
    good: dict[str, object] = {"schema": 1, "id": "g1", "cluster": "a", "address": "::1", "port": 15443}
    return pb.Gateway(**(good | changes)).SerializeToString()  # type: ignore[arg-type]


def test_a_good_export_is_written_under_its_own_clusters_key_byte_by_byte() -> None:
    body = an_export().SerializeToString()
    assert validate(A, codec.EXPORT, "shop/echo", body) == Wish(ExportKey(ECHO, A), body)


def test_a_withdrawal_names_the_key_of_the_own_cluster() -> None:
    assert validate(A, codec.CAPACITY, "shop/echo", None) == Wish(EndpointsKey(ECHO, A), None)
    assert validate(A, codec.GATEWAY, "g1", None) == Wish(GatewayKey(A, "g1"), None)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (an_export(cluster="b"), "its certificate says 'a'"),
        (an_export(name="other"), "named otherwise"),
        (an_export(ports=[]), "0 ports"),
        (an_export(ports=[pb.ServicePort(name="http", port=0)]), "out of range"),
        (an_export(ports=[pb.ServicePort(name="HTTP", port=1)]), "not valid"),
        (an_export(ports=[pb.ServicePort(port=1), pb.ServicePort(name="b", port=2)]), "has no name"),
        (an_export(ports=[pb.ServicePort(name="x", port=1), pb.ServicePort(name="x", port=2)]), "given twice"),
        (an_export(ports=[pb.ServicePort(name="x", port=1), pb.ServicePort(name="y", port=1)]), "1/TCP"),
        (an_export(session_affinity="Sticky"), "session affinity"),
        (an_export(first_revision=1), "age of an export"),
        (an_export(schema=99), "schema 99"),
        (an_export(labels={f"k{n}": "" for n in range(65)}), "64"),
    ],
)
def test_an_export_that_cannot_be_taken_says_why(message: pb.Export, reason: str) -> None:
    rejected = validate(A, codec.EXPORT, "shop/echo", message.SerializeToString())
    assert isinstance(rejected, Rejected) and rejected.name == "shop/echo"
    assert reason in rejected.reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (a_capacity(zones=[pb.ZoneCapacity(locality=ZONE, ready=2, total=1)]), "more ready"),
        (a_capacity(zones=[pb.ZoneCapacity(locality=ZONE), pb.ZoneCapacity(locality=ZONE)]), "given twice"),
        (a_capacity(endpoints=[pb.Endpoint(address="echo.local", locality=ZONE)]), "no IP address"),
        (a_capacity(endpoints=[pb.Endpoint(address="::1", locality=ZONE, ports={"http": 0})]), "out of range"),
        (a_capacity(cluster="b"), "certificate"),
        (a_capacity(zones=[pb.ZoneCapacity(locality=pb.Locality(provider="aws"))]), "provider/region/zone"),
    ],
)
def test_a_capacity_that_cannot_be_taken_says_why(message: pb.Capacity, reason: str) -> None:
    rejected = validate(A, codec.CAPACITY, "shop/echo", message.SerializeToString())
    assert isinstance(rejected, Rejected) and reason in rejected.reason


def test_what_is_just_allowed_is_taken() -> None:
    ports = [pb.ServicePort(name=f"p{number}", port=number) for number in range(1, 102)]
    ready = a_capacity(zones=[pb.ZoneCapacity(locality=ZONE, ready=2, total=2)]).SerializeToString()
    assert isinstance(validate(A, codec.CAPACITY, "shop/echo", ready), Wish)
    many = an_export(ports=ports[:100], labels={f"k{n}": "" for n in range(64)}).SerializeToString()
    assert isinstance(validate(A, codec.EXPORT, "shop/echo", many), Wish)
    more = validate(A, codec.EXPORT, "shop/echo", an_export(ports=ports).SerializeToString())
    assert isinstance(more, Rejected) and "it has 101 ports" in more.reason


@pytest.mark.parametrize(
    ("type_url", "name", "body", "reason"),
    [
        (codec.CLUSTER, "a", b"", "cannot be published"),
        (codec.EXPORT, "echo", b"", "has no namespace"),
        (codec.EXPORT, "shop/../etc", b"", "DNS label"),
        (codec.EXPORT, "shop/echo", b"\xff\xff\xff", "decoded"),
        (codec.EXPORT, "shop/echo", b"x" * 600_000, "at most"),
        (codec.GATEWAY, "g/1", b"", "DNS label"),
        (codec.GATEWAY, "g1", a_gateway(id="g2"), "calls itself"),
        (
            codec.GATEWAY,
            "g1",
            pb.Gateway(schema=1, id="g1", cluster="a", port=1, address="x").SerializeToString(),
            "no IP",
        ),
        (
            codec.GATEWAY,
            "g1",
            pb.Gateway(schema=1, id="g1", cluster="a", address="::1").SerializeToString(),
            "out of range",
        ),
    ],
)
def test_anything_else_is_refused_with_a_sentence(type_url: str, name: str, body: bytes, reason: str) -> None:
    rejected = validate(A, type_url, name, body)
    assert isinstance(rejected, Rejected) and reason in rejected.reason
