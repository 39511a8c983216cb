"""What a running gateway says when its cluster joins again under it."""

from pathlib import Path

import msgspec
import pytest

from isthmus_core.names import ClusterId, Locality
from isthmus_gateway.membership import Membership, MembershipWatch, write_membership

MEMBER = Membership(
    id=ClusterId("west"),
    federation="fed",
    domain="fed.test",
    locality=Locality("aws", "eu-west-1", "a"),
    network="",
    controllers=("127.0.0.1:15013",),
    token="t1",
)


@pytest.fixture
def watch(tmp_path: Path) -> MembershipWatch:
    write_membership(tmp_path, MEMBER)
    return MembershipWatch(tmp_path, MEMBER)


def test_joining_again_with_the_same_place_needs_nothing(tmp_path: Path, watch: MembershipWatch) -> None:
    assert watch.look() == ""
    write_membership(tmp_path, msgspec.structs.replace(MEMBER, token="t2"))
    assert watch.look() == ""


def test_another_place_is_named_until_the_file_says_the_first_again(tmp_path: Path, watch: MembershipWatch) -> None:
    moved = msgspec.structs.replace(MEMBER, locality=Locality("gcp", "europe-west1", "b"), network="dc-1")
    write_membership(tmp_path, moved)
    said = watch.look()
    assert "the locality gcp/europe-west1/b (it runs with aws/eu-west-1/a)" in said
    assert "the network dc-1 (it runs with none)" in said
    assert said.endswith("Restart the gateway: stop it and run 'isthmus gateway --cluster west'.")
    assert watch.look() == said
    write_membership(tmp_path, MEMBER)
    assert watch.look() == ""


def test_a_file_that_is_gone_or_broken_is_named(tmp_path: Path, watch: MembershipWatch) -> None:
    path = tmp_path / "cluster.json"
    path.write_text("{")
    assert f"{path} cannot be read" in watch.look()
    path.unlink()
    assert watch.look() == f"{path} cannot be read: no such file or directory. Restore it or join again."
