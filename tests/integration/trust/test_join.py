"""Joining: a cluster becomes a member, safely repeated, and trusts nobody that the token does not name."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from integration.trust.controller import Controller
from isthmus_core.errors import InvalidInput, Refused, Unavailable
from isthmus_core.spiffe import controller_name
from isthmus_gateway.identity import gateway_identity_source, issue_gateway_identity
from isthmus_gateway.join import join
from isthmus_gateway.membership import read_membership
from isthmus_kit.pki import decode_certificates, make_key, make_request
from isthmus_kit.tls import client_context, peer_of_tls
from support.addresses import free_port
from support.waiting import wait_until


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    with Controller(tmp_path / "controller") as running:
        yield running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_cluster_joins_and_its_leaves_are_believed(controller: Controller, data: Path) -> None:
    member = join(controller.token(), data)
    assert (member.id, member.domain, str(member.locality), member.network) == (
        "a",
        "fed.test",
        "aws/eu-west-1/a",
        "net",
    )
    assert member == read_membership(data)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in data.iterdir()} == {
        "root.pem": "0o644",
        "ca.pem": "0o644",
        "ca.key": "0o600",
        "cluster.json": "0o600",
    }
    leaf = issue_gateway_identity(data, datetime.now(UTC))
    names = decode_certificates(leaf.chain, "the leaf")[0].extensions
    said = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert said.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://a.fed.test/gateway"]
    assert said.get_values_for_type(x509.DNSName) == ["gateway.a.fed.test"]
    host, port = controller.address.split(":")
    context = client_context(leaf.roots, leaf)
    with (
        socket.create_connection((host, int(port)), 5.0) as raw,
        context.wrap_socket(raw, server_hostname=controller_name("fed.test")) as wrapped,
    ):
        assert wrapped.version() == "TLSv1.3"
        peer = peer_of_tls(wrapped, "fed.test")
        assert peer and peer.role.value == "controller"


def test_the_key_never_leaves(controller: Controller, data: Path) -> None:
    join(controller.token(), data)
    secret = (data / "ca.key").read_bytes().splitlines()[1]
    assert all(secret not in body for _, body in controller.asked)


def test_joining_again_changes_nothing_and_asks_nobody(controller: Controller, data: Path) -> None:
    token = controller.token()
    first = join(token, data)
    asked, files = len(controller.asked), {path.name: path.read_bytes() for path in data.iterdir()}
    assert join(token, data) == first
    assert (len(controller.asked), {path.name: path.read_bytes() for path in data.iterdir()}) == (asked, files)


def test_joining_again_with_a_new_token_renews_a_ca_that_runs_out(controller: Controller, data: Path) -> None:
    def sign_for_a_minute(answer: dict[str, object]) -> None:
        now, request = datetime.now(UTC), make_request_of(controller)
        answer["ca_certificate"] = controller.trust.sign_cluster_ca("a", request, now, timedelta(minutes=1)).decode()

    controller.alter = sign_for_a_minute
    join(controller.token(), data)
    before = {name: (data / name).read_bytes() for name in ("ca.pem", "ca.key")}
    controller.alter = lambda answer: None
    join(controller.token(), data)
    assert (data / "ca.pem").read_bytes() != before["ca.pem"]
    assert (data / "ca.key").read_bytes() == before["ca.key"]


def test_a_cluster_that_was_removed_comes_back_with_a_new_token(controller: Controller, data: Path) -> None:
    join(controller.token(), data)
    asked = len(controller.asked)
    again = controller.token()
    member = join(again, data)
    assert len(controller.asked) > asked
    assert join(again, data) == member == read_membership(data)


def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_token(controller: Controller, data: Path) -> None:
    controller.drop_answers = 1
    token = controller.token()
    with pytest.raises(Unavailable):
        join(token, data)
    assert not (data / "cluster.json").exists()
    assert join(token, data).id == "a"


JOIN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from isthmus_gateway.join import join

event, left, token, folder = sys.argv[1], int(sys.argv[2]), sys.stdin.read(), Path(sys.argv[3])

def watch(name, arguments):
    global left
    if name == event:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
join(token, folder)
"""


@pytest.mark.parametrize(
    ("event", "number"), [("socket.connect", 1), ("socket.connect", 2), *(("os.rename", n) for n in range(1, 5))]
)
def test_killed_at_any_moment_the_same_command_goes_on(
    controller: Controller, data: Path, event: str, number: int
) -> None:
    token = controller.token()
    command = [sys.executable, "-c", JOIN_AND_DIE, event, str(number), str(data)]
    killed = subprocess.run(command, input=token.encode(), timeout=30, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert join(token, data).id == "a"
    assert issue_gateway_identity(data, datetime.now(UTC)).id.path == "/gateway"


@pytest.mark.parametrize("lost", ["ca.pem", "root.pem"])
def test_killed_before_the_last_file_it_is_repeated(controller: Controller, data: Path, lost: str) -> None:
    token = controller.token()
    join(token, data)
    (data / "cluster.json").unlink()
    (data / lost).unlink()
    assert join(token, data).id == "a"


def test_a_used_token_is_refused_to_another_key(controller: Controller, data: Path, tmp_path: Path) -> None:
    token = controller.token()
    join(token, data)
    with pytest.raises(Refused, match=r"for a was used already\. Make a new one with"):
        join(token, tmp_path / "elsewhere")


def test_a_wrong_root_fingerprint_stops_before_anything_is_sent(controller: Controller, data: Path) -> None:
    with pytest.raises(Refused, match="shows a root that is not the token's"):
        join(controller.token(root_fingerprint="0" * 64), data)
    assert controller.asked == [("/v1/root", b"")]
    assert not (data / "cluster.json").exists()


def test_somebody_who_shows_the_right_root_but_is_no_controller_gets_no_token(tmp_path: Path, data: Path) -> None:
    with Controller(tmp_path / "real") as real:
        real.tokens.clear()
        join(real.token("evil"), tmp_path / "evil")
        stolen = issue_gateway_identity(tmp_path / "evil", datetime.now(UTC))
        with Controller(tmp_path / "fake", identity=stolen) as fake:
            fake.trust = real.trust
            with pytest.raises(Refused, match=r"is no controller of fed\.test"):
                join(real.token(controllers=[fake.address]), data)
            assert fake.asked == [("/v1/root", b"")]


def test_controllers_are_tried_in_turn(controller: Controller, data: Path) -> None:
    dead = f"127.0.0.1:{free_port()}"
    assert join(controller.token(controllers=[dead, controller.address]), data).id == "a"


def test_unreachable_controllers_are_named(controller: Controller, data: Path) -> None:
    dead = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    with pytest.raises(Unavailable) as caught:
        join(controller.token(controllers=dead), data)
    assert all(f"{address}: nothing listens there" in str(caught.value) for address in dead)


def test_an_expired_token_is_not_even_sent(controller: Controller, data: Path) -> None:
    token = controller.token(ttl=timedelta(seconds=1))
    record = next(iter(controller.tokens.values()))
    wait_until(lambda: datetime.now(UTC).timestamp() * 1000 >= record.expires_at_ms)
    with pytest.raises(Refused, match="has expired"):
        join(token, data)
    assert not controller.asked


def test_a_data_directory_of_another_cluster_is_left_alone(controller: Controller, data: Path) -> None:
    join(controller.token("a"), data)
    with pytest.raises(InvalidInput, match=r"belongs to the cluster a of fed\.test, and the token is for b"):
        join(controller.token("b"), data)


def test_a_data_directory_of_another_federation_of_that_name_is_left_alone(
    controller: Controller, data: Path, tmp_path: Path
) -> None:
    join(controller.token("a"), data)
    with Controller(tmp_path / "other") as other, pytest.raises(InvalidInput, match="another root"):
        join(other.token("a"), data)


def test_a_refusal_of_the_controller_is_shown_as_it_is(controller: Controller, data: Path) -> None:
    token = controller.token()
    controller.tokens.clear()
    with pytest.raises(Refused, match="is not known"):
        join(token, data)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [("other key", "for another key"), ("other cluster", "not limited to a.fed.test"), ("other root", "not signed by")],
)
def test_an_answer_that_is_not_ours_is_refused(
    controller: Controller, data: Path, tmp_path: Path, what: str, sentence: str
) -> None:
    stranger = make_request(make_key(), "x")
    with Controller(tmp_path / "other") as other:

        def alter(answer: dict[str, object]) -> None:
            ours = make_request_of(controller)
            trust = other.trust if what == "other root" else controller.trust
            cluster = "b" if what == "other cluster" else "a"
            request = stranger if what == "other key" else ours
            answer["ca_certificate"] = trust.sign_cluster_ca(cluster, request).decode()

        controller.alter = alter
        with pytest.raises(Refused, match=sentence):
            join(controller.token(), data)
    assert not (data / "cluster.json").exists()


def make_request_of(controller: Controller) -> bytes:
    return str(json.loads(controller.asked[-1][1])["csr"]).encode()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(controller: Controller, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InvalidInput, match=r"cannot be written: permission denied"):
            join(controller.token(), tmp_path / "data")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder_is_named(controller: Controller, data: Path) -> None:
    data.write_text("")
    with pytest.raises(InvalidInput):
        join(controller.token(), data)


def test_a_gateway_renews_from_its_own_files_without_a_controller(controller: Controller, data: Path) -> None:
    join(controller.token(), data)
    source = gateway_identity_source(data)
    assert (source.value.not_after - source.value.issued_at) <= timedelta(hours=1)
    assert issue_gateway_identity(data, datetime.now(UTC)).chain != source.value.chain


def test_keys_that_do_not_belong_together_are_refused(controller: Controller, data: Path, tmp_path: Path) -> None:
    join(controller.token("a"), data)
    join(controller.token("b"), tmp_path / "b")
    (data / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())
    with pytest.raises(Refused, match="another key"):
        issue_gateway_identity(data, datetime.now(UTC))
