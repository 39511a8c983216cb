"""What etcd and gRPC report becomes one sentence of the right kind."""

import grpc
import pytest

from isthmus_controller.store import Compacted, LeaseLost, OutcomeUnknown
from isthmus_controller.store.connection import Connection, Target, TlsFiles, grpc_target
from isthmus_controller.store.errors import Untrusted, never_sent, token_expired, translate
from isthmus_core.errors import InvalidInput, IsthmusError, Refused, Unavailable

Code = grpc.StatusCode


def report(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(
    ("code", "details", "kind", "words"),
    [
        (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", Compacted, "compacted"),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", Unavailable, "alarm disarm"),
        (Code.NOT_FOUND, "etcdserver: requested lease not found", LeaseLost, "lease"),
        (Code.PERMISSION_DENIED, "etcdserver: permission denied", Refused, "role"),
        (
            Code.INVALID_ARGUMENT,
            "etcdserver: authentication failed, invalid user ID or password",
            InvalidInput,
            "Check the user and the password",
        ),
        (Code.INVALID_ARGUMENT, "etcdserver: request is too large", InvalidInput, "does not fit"),
        (
            Code.UNAVAILABLE,
            "failed to connect to all addresses; last error: CERTIFICATE_VERIFY_FAILED",
            Untrusted,
            "CA",
        ),
        (Code.UNAVAILABLE, "failed to connect to all addresses; last error: handshake failed", Untrusted, "https"),
        (Code.UNAVAILABLE, "ipv4:a:1: Unwrap failed (TSI_DATA_CORRUPTED)", Untrusted, "client certificate"),
        (Code.UNAVAILABLE, "Custom verification check failed: Hostname Verification Check failed", Untrusted, "name"),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", Unavailable, "in time"),
        (Code.UNAVAILABLE, "etcdserver: no leader", Unavailable, "no leader"),
    ],
)
def test_a_report_becomes_a_sentence(code: grpc.StatusCode, details: str, kind: type[IsthmusError], words: str) -> None:
    error = translate(report(code, details), "https://a:1", write=False)
    assert type(error) is kind
    assert words in str(error)


def test_a_write_without_an_answer_has_an_unknown_outcome() -> None:
    assert isinstance(translate(report(Code.DEADLINE_EXCEEDED, ""), "a", write=True), OutcomeUnknown)
    assert isinstance(translate(report(Code.UNAVAILABLE, "Socket closed"), "a", write=True), OutcomeUnknown)


def test_a_write_that_never_left_is_only_unavailable() -> None:
    error = report(Code.UNAVAILABLE, "failed to connect to all addresses; last error: refused")
    assert never_sent(error)
    assert type(translate(error, "a", write=True)) is Unavailable


def test_an_expired_token_is_told_from_a_wrong_password() -> None:
    assert token_expired(report(Code.UNAUTHENTICATED, "etcdserver: invalid auth token"))
    assert not token_expired(report(Code.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID"))


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("http://127.0.0.1:2379", ("127.0.0.1:2379", False)),
        ("https://etcd.example:2379/", ("etcd.example:2379", True)),
        ("https://[::1]:2379", ("[::1]:2379", True)),
        ("unix:///run/etcd.sock", ("unix:/run/etcd.sock", False)),
    ],
)
def test_an_address_is_read(address: str, target: tuple[str, bool]) -> None:
    assert grpc_target(address) == target


@pytest.mark.parametrize("address", ["", "127.0.0.1:2379", "https://host", "http://:2379", "ftp://a:1", "http://a:0"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="https://host:2379"):
        grpc_target(address)


@pytest.mark.anyio
async def test_https_without_a_ca_and_files_that_are_missing_are_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("tls")
    garbage = folder / "garbage.crt"
    garbage.write_text("not a certificate")
    for target, words in (
        (Target(()), "no etcd address"),
        (Target(("https://127.0.0.1:1",)), "no CA file"),
        (Target(("https://127.0.0.1:1",), TlsFiles(folder / "none.crt")), "none.crt"),
        (Target(("https://127.0.0.1:1",), TlsFiles(garbage)), "PEM"),
        (Target(("https://127.0.0.1:1",), TlsFiles(garbage, certificate=garbage)), "both files"),
    ):
        with pytest.raises(InvalidInput, match=words):
            Connection(target)
