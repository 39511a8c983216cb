"""`isthmus controller` on somebody's own etcd: TLS and a limited user work, and what is wrong is one sentence."""

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from integration.controller.world import HOST, Admin, make_federation
from isthmus_controller.trust import NewFederation
from isthmus_kit.files import write_file
from isthmus_kit.pki import encode, make_root
from support.addresses import free_port
from support.command import isthmus
from support.etcd_cluster import PASSWORD, STRANGER, USER, EtcdCluster
from support.process import Process

VARIABLE = "ISTHMUS_CONTROLLER_ETCD_PASSWORD"


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), shared=True) as cluster:
        asyncio.run(cluster.guard())
        yield cluster


@pytest.fixture
def federation(tmp_path: Path, federation_name: str) -> NewFederation:
    return make_federation(tmp_path / "controller", federation_name)


def tls(etcd: EtcdCluster) -> list[str]:
    pair = etcd.client
    return [f"--etcd-ca={etcd.ca}", f"--etcd-cert={pair.certificate}", f"--etcd-key={pair.key}"]


def test_a_controller_serves_on_an_etcd_with_tls_and_a_limited_user_and_no_argument_holds_the_password(
    etcd: EtcdCluster, federation: NewFederation, tmp_path: Path
) -> None:
    write_file(tmp_path / "password", f"{PASSWORD}\n".encode())
    command = [str(Path(sys.executable).with_name("isthmus")), "controller", f"--data-dir={federation.folder}"]
    command += [f"--etcd={','.join(etcd.addresses)}", f"--etcd-user={USER}", *tls(etcd)]
    ways: tuple[tuple[list[str], dict[str, str]], ...] = (
        (["--etcd-password-file", str(tmp_path / "password")], {}),
        ([], {VARIABLE: PASSWORD}),
    )
    replicas = []
    for number, (more, env) in enumerate(ways):
        grpc, admin = (f"{HOST}:{free_port(HOST)}" for _ in range(2))
        words = [*command, *more, f"--listen={grpc}", f"--admin-listen={admin}", "--log-format=json"]
        replicas.append((Process(words, tmp_path / f"{number}.log", env).start(), admin))
    try:
        for process, admin in replicas:
            process.wait_for_line("controller is ready", within=30)
            assert PASSWORD.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
            status, ready = Admin(federation, admin).call("GET", "/readyz")
            assert (status, ready["warnings"]) == (200, {})
    finally:
        ends = [process.stop() for process, _ in replicas]
    assert ends == [0, 0], [process.output() for process, _ in replicas]
    assert PASSWORD not in "".join(process.output() for process, _ in replicas)


def wrong_calls(etcd: EtcdCluster, folder: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Wrong arguments and variables by the sentence that names them."""
    foreign = make_root("another CA", datetime.now(UTC))
    write_file(folder / "foreign.crt", encode(foreign.certificate))
    stranger = etcd.issue("of-another-ca", authority=foreign)
    expired = etcd.issue("expired", days=-1)
    write_file(folder / "empty", b"")
    members, own = f"--etcd={','.join(etcd.addresses)}", tls(etcd)
    who, secret = [f"--etcd-user={USER}"], {VARIABLE: PASSWORD}
    other_ca = [f"--etcd-ca={folder / 'foreign.crt'}", *own[1:]]
    not_ours = [own[0], f"--etcd-cert={stranger.certificate}", f"--etcd-key={stranger.key}"]
    too_old = [own[0], f"--etcd-cert={expired.certificate}", f"--etcd-key={expired.key}"]
    plain = f"--etcd=http://{etcd.host}:{etcd.members[0].port}"
    return {
        "cannot read /nowhere/ca.crt for etcd: No such file": ([members, "--etcd-ca=/nowhere/ca.crt"], {}),
        "no CA certificate was given for the etcd": ([members], {}),
        "would not use the TLS file": ([plain, *own], {}),
        "needs its key, and the other way round": ([members, *own[:2]], {}),
        "needs a password, and the other way round": ([members, *own, *who], {}),
        "cannot be read: no such file": ([members, *own, *who, "--etcd-password-file=/nowhere/password"], {}),
        "empty is empty": ([members, *own, *who, f"--etcd-password-file={folder / 'empty'}"], {}),
        "given twice": ([members, *own, *who, f"--etcd-password-file={folder / 'empty'}"], secret),
        "Check the user and the password for etcd": ([members, *own, *who], {VARIABLE: "wrong"}),
        "below /isthmus/": ([members, *own, f"--etcd-user={STRANGER}"], secret),
        "is not trusted": ([members, *other_ca, *who], secret),
        "no TLS connection with etcd": ([members, *not_ours, *who], secret),
        "no TLS connection with etcd at": ([members, *too_old, *who], secret),
        "no TLS connection with": ([members, own[0], *who], secret),
    }


def test_what_is_wrong_about_an_etcd_is_one_sentence_and_ends_the_controller(
    etcd: EtcdCluster, federation: NewFederation, tmp_path: Path
) -> None:
    def start(call: tuple[list[str], dict[str, str]]) -> "CompletedProcess[str]":
        words, env = call
        where = [f"--data-dir={federation.folder}", f"--listen={HOST}:{free_port(HOST)}"]
        where.append(f"--admin-listen={HOST}:{free_port(HOST)}")
        return isthmus("controller", *where, *words, home=tmp_path, env=env)

    calls = wrong_calls(etcd, tmp_path)
    with ThreadPoolExecutor(3) as pool:
        for sentence, ended in zip(calls, pool.map(start, calls.values()), strict=True):
            said = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
            assert (ended.returncode, len(said)) == (1, 1), (sentence, ended)
            assert sentence in said[0] and "Traceback" not in ended.stderr, ended
