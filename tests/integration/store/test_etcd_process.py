"""The etcd beside the controller: it serves its owner only, keeps its data, and never outlives anybody."""

import asyncio
import contextlib
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from isthmus_controller.etcd_binary import find_etcd
from isthmus_controller.etcd_process import EtcdProcess
from isthmus_controller.store import EtcdClient, Target, TlsFiles
from isthmus_controller.store.local_tls import make_local_tls
from isthmus_core.errors import InvalidInput, Unavailable
from isthmus_kit.tasks import own_tasks
from support import binaries
from support.addresses import free_port
from support.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def etcd_binary() -> Path:
    return binaries.etcd()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_data_survive_a_restart_and_files_are_private(tmp_path: Path, etcd_binary: Path) -> None:
    async with EtcdProcess(tmp_path, binary=etcd_binary) as server, EtcdClient(server.target) as client:
        await client.put("/a", b"1")
        pid = server.pid
        cluster = (await client.status()).cluster_id
    assert not alive(pid)
    async with EtcdProcess(tmp_path, binary=etcd_binary) as server, EtcdClient(server.target) as client:
        found = await client.get("/a")
        assert found is not None and found.value == b"1"
        assert (await client.status()).cluster_id == cluster
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "etcd-tls").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "etcd").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "etcd.log").stat().st_mode) == 0o600


async def test_nobody_else_gets_in(tmp_path: Path, etcd_binary: Path) -> None:
    async with EtcdProcess(tmp_path / "etcd", binary=etcd_binary) as server:
        target = server.target
        tls = target.tls
        assert tls is not None
        stranger = make_local_tls(tmp_path / "stranger", "127.0.0.1")
        for files, words in (
            (TlsFiles(tls.ca), "TLS|cannot be reached"),  # no certificate of our own
            (TlsFiles(tls.ca, stranger.client_certificate, stranger.client_key), "TLS|cannot be reached"),
            (TlsFiles(stranger.ca, tls.certificate, tls.key), "is not trusted"),  # and we trust no other server
        ):
            async with EtcdClient(Target(target.addresses, files), timeout=3.0) as client:
                with pytest.raises(Unavailable, match=words):
                    await client.get("/a")
        plain = tuple(address.replace("https", "http") for address in target.addresses)
        async with EtcdClient(Target(plain), timeout=1.0) as client:
            with pytest.raises(Unavailable):
                await client.get("/a")
        async with EtcdClient(target) as client:
            assert await client.get("/a") is None


async def test_it_is_started_again_with_its_data_at_the_same_address(tmp_path: Path, etcd_binary: Path) -> None:
    async with (
        EtcdProcess(tmp_path, binary=etcd_binary) as server,
        EtcdClient(server.target) as client,
        own_tasks() as owner,
    ):
        owner.once("etcd", server.supervise())
        await client.put("/a", b"1")
        pid = server.pid
        os.kill(pid, signal.SIGKILL)

        async def back() -> bool:
            with contextlib.suppress(Unavailable):
                return server.pid != pid and await client.get("/a") is not None
            return False

        await eventually(back, 15, every=0.05)


async def test_a_client_reads_its_certificate_files_again(tmp_path: Path, etcd_binary: Path) -> None:
    port = free_port()
    async with EtcdProcess(tmp_path, port=port, binary=etcd_binary) as server:
        client = EtcdClient(server.target)
        await client.put("/a", b"1")
    async with client, EtcdProcess(tmp_path, port=port, binary=etcd_binary):  # another CA, in the same files

        async def reads() -> bool:
            with contextlib.suppress(Unavailable):
                return await client.get("/a") is not None
            return False

        await eventually(reads, 10, every=0.05)


async def test_it_ends_even_when_its_owner_is_killed(tmp_path: Path, etcd_binary: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from isthmus_controller.etcd_process import EtcdProcess\n"
        "async def main():\n"
        "    async with EtcdProcess(Path(sys.argv[1]), binary=Path(sys.argv[2])) as server:\n"
        "        print(server.pid, flush=True)\n"
        "        await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, tmp_path, etcd_binary), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    assert alive(pid)
    owner.kill()
    await owner.wait()
    await eventually(lambda: not alive(pid), within=5)
    async with EtcdProcess(tmp_path, binary=etcd_binary):  # and the data can be used again at once
        pass


async def test_a_second_etcd_on_the_same_data_is_refused(tmp_path: Path, etcd_binary: Path) -> None:
    async with EtcdProcess(tmp_path, binary=etcd_binary) as server:
        with pytest.raises(InvalidInput, match="another etcd is running with the data in"):
            await EtcdProcess(tmp_path, binary=etcd_binary, patience=0.3).start()
        assert alive(server.pid)
        async with EtcdClient(server.target) as client:  # the certificates are still those of the first
            assert await client.get("/a") is None


async def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path, etcd_binary: Path) -> None:
    async with EtcdProcess(tmp_path / "one", binary=etcd_binary) as server:
        port = int(server.target.addresses[0].rpartition(":")[2])
        with pytest.raises(InvalidInput, match=f"cannot listen on 127.0.0.1:{port}: .*in use"):
            await EtcdProcess(tmp_path / "two", port=port, binary=etcd_binary).start()


async def test_a_wished_port_is_used(tmp_path: Path, etcd_binary: Path) -> None:
    port = free_port()
    async with EtcdProcess(tmp_path, port=port, binary=etcd_binary) as server:
        assert server.target.addresses == (f"https://127.0.0.1:{port}",)


async def test_a_folder_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path, etcd_binary: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", Path("/proc/isthmus")):
        with pytest.raises(InvalidInput, match=str(folder)):
            await EtcdProcess(folder, binary=etcd_binary).start()


async def test_the_last_line_of_the_log_says_why_it_did_not_start(tmp_path: Path, etcd_binary: Path) -> None:
    (tmp_path / "etcd" / "member" / "snap").mkdir(parents=True)
    (tmp_path / "etcd" / "member" / "snap" / "db").write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match=r"etcd ended at once: .*invalid database"):
        await EtcdProcess(tmp_path, binary=etcd_binary).start()


async def test_a_panic_over_damaged_data_is_quoted_without_its_trace(tmp_path: Path, etcd_binary: Path) -> None:
    async with EtcdProcess(tmp_path, binary=etcd_binary):
        pass
    for log in (tmp_path / "etcd" / "member" / "wal").glob("*.wal"):
        with log.open("r+b") as file:
            file.write(bytes(range(100, 200)))
    with pytest.raises(Unavailable, match=r"etcd ended at once: panic: .*Its log is ") as ended:
        await EtcdProcess(tmp_path, binary=etcd_binary).start()
    assert "goroutine" not in str(ended.value) and "\n" not in str(ended.value)


async def test_a_program_that_is_no_etcd_does_not_hang(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="ended at once"):
        await EtcdProcess(tmp_path, binary=Path("/bin/false")).start()
    with pytest.raises(Unavailable, match="ended at once"):
        await EtcdProcess(tmp_path, binary=tmp_path / "missing").start()


async def test_variables_of_etcd_in_the_environment_do_no_harm(
    tmp_path: Path, etcd_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_NAME", "other")
    monkeypatch.setenv("ETCD_DATA_DIR", str(tmp_path / "other"))
    async with EtcdProcess(tmp_path / "ours", binary=etcd_binary):
        assert not (tmp_path / "other").exists()


def test_the_binary_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(name: str, version: str) -> Path:
        path = tmp_path / name / "etcd"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
        path.chmod(0o755)
        return path

    named, old, good = program("named", "3.6.0"), program("old", "3.5.3"), program("good", "3.5.4")
    # At first without an etcd beside the interpreter.
    monkeypatch.setattr(sys, "executable", str(tmp_path / "own" / "python"))
    monkeypatch.setenv("ISTHMUS_ETCD", str(named))
    assert find_etcd() == named
    monkeypatch.setenv("ISTHMUS_ETCD", str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="which is not a program"):
        find_etcd()
    monkeypatch.delenv("ISTHMUS_ETCD")
    monkeypatch.setenv("PATH", f"{good.parent}:/bin")
    assert find_etcd() == good
    monkeypatch.setenv("PATH", f"{old.parent}:/bin")
    with pytest.raises(InvalidInput, match=r"3\.5\.3, which can lose data"):
        find_etcd()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput, match=r"no etcd was found.*ISTHMUS_ETCD"):
        find_etcd()
    own = program("own", "3.6.0")
    assert find_etcd() == own
    monkeypatch.setenv("PATH", f"{good.parent}:/bin")
    assert find_etcd() == good, "what the machine has comes first, as for Envoy"
    for useless in (old, program("broken", "of today")):
        monkeypatch.setenv("PATH", f"{useless.parent}:/bin")
        assert find_etcd() == own


async def test_a_frozen_etcd_is_ended_all_the_same(tmp_path: Path, etcd_binary: Path) -> None:
    server = EtcdProcess(tmp_path, binary=etcd_binary)
    await server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(3):
        await server.stop(grace=0.5)
    assert not alive(pid)
