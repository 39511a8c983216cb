"""Values at rest: bytes of older releases decode, bytes of newer ones are refused with a clear sentence."""

from pathlib import Path

import pytest
from google.protobuf.message import Message

from isthmus_controller.store import decode, encode
from isthmus_controller.store.codec import Stored
from isthmus_core.errors import InvalidInput
from isthmus_sync.codec import SCHEMA
from isthmus_sync.proto import isthmus_pb2 as pb

GOLDEN = Path(__file__).parent / "golden"
LOCALITY = pb.Locality(provider="aws", region="eu-west-1", zone="a")
PORT = pb.ServicePort(name="http", port=80, protocol=pb.TCP, app_protocol=pb.APP_HTTP)

# What release 0.1 wrote, by the name of its file. Never change one: add the next release's beside it.
WRITTEN: dict[str, Message] = {
    "cluster-1": pb.Cluster(
        schema=1,
        id="alpha",
        locality=LOCALITY,
        network="net-1",
        trust_domain="alpha.fed.example",
        state=pb.Cluster.DRAINING,
        registered_at_ms=1_790_000_000_000,
        certificate_fingerprint="ab" * 32,
    ),
    "gateway-1": pb.Gateway(schema=1, id="gw-0", cluster="alpha", address="192.0.2.7", port=15443, version="0.1.0"),
    "export-1": pb.Export(
        schema=1,
        namespace="shop",
        name="echo",
        cluster="alpha",
        ports=[PORT],
        labels={"team": "a", "tier": "b"},
        annotations={"note": "x"},
        session_affinity="None",
        exported_at_ms=1_790_000_000_001,
        first_revision=42,
    ),
    "capacity-1": pb.Capacity(
        schema=1,
        namespace="shop",
        name="echo",
        cluster="alpha",
        zones=[pb.ZoneCapacity(locality=LOCALITY, ready=2, total=3)],
        endpoints=[pb.Endpoint(address="10.0.0.1", locality=LOCALITY, weight=1, ready=True, ports={"http": 8080})],
        observed_at_ms=1_790_000_000_002,
    ),
    "join-token-1": pb.JoinToken(
        schema=1,
        id="t1",
        cluster="alpha",
        secret_sha256=bytes(range(32)),
        expires_at_ms=1_790_000_600_000,
        locality=LOCALITY,
        network="net-1",
    ),
    "trust-bundle-1": pb.TrustBundle(schema=1, federation_domain="fed.example", roots=[b"\x30\x01\x00"], sequence=3),
}


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_bytes_that_an_older_release_wrote_still_decode(name: str) -> None:
    written = WRITTEN[name]
    kind: type[Stored] = type(written)  # type: ignore[assignment]
    assert decode(kind, (GOLDEN / f"{name}.bin").read_bytes(), "a/key") == written


def test_every_golden_file_is_tested() -> None:
    assert {path.stem for path in GOLDEN.glob("*.bin")} == set(WRITTEN)


def test_equal_messages_have_equal_bytes_whatever_the_order_of_their_maps() -> None:
    one, other = (pb.Export(schema=1, labels=labels) for labels in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}))
    assert encode(one) == encode(other)


def test_a_message_without_a_version_gets_ours_and_stays_as_it_was() -> None:
    message = pb.Cluster(id="alpha")
    assert decode(pb.Cluster, encode(message), "k") == pb.Cluster(id="alpha", schema=SCHEMA)
    assert message.schema == 0


def test_a_newer_schema_is_refused_by_key_and_both_versions() -> None:
    newer = pb.Cluster(schema=SCHEMA + 1, id="alpha").SerializeToString()
    with pytest.raises(InvalidInput, match=rf"clusters/alpha was written with schema {SCHEMA + 1}.* up to {SCHEMA}"):
        decode(pb.Cluster, newer, "clusters/alpha")


@pytest.mark.parametrize("value", [b"\xff\xff\xff", b""])
def test_bytes_that_are_no_value_of_ours_are_refused_by_key(value: bytes) -> None:
    with pytest.raises(InvalidInput, match="clusters/alpha"):
        decode(pb.Cluster, value, "clusters/alpha")


def test_fields_of_a_later_release_with_the_same_schema_are_ignored() -> None:
    with_unknown_field = pb.Cluster(schema=1, id="alpha").SerializeToString() + b"\xc2\x3e\x01x"  # field 1000
    assert decode(pb.Cluster, with_unknown_field, "k").id == "alpha"
