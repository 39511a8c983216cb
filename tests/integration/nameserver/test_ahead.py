"""Workers that are started before it is known what they serve."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus_dns.listening.addresses import Address, claim_addresses
from isthmus_dns.serving.ahead import started_ahead
from isthmus_dns.serving.supervisor import Supervisor
from isthmus_dns.serving.worker import WorkerSpec
from isthmus_dns.watching.traffic import Report
from isthmus_kit.tasks import own_tasks
from support.waiting import eventually, wait_until
from unit.nameserver.builders import Feed, service

pytestmark = pytest.mark.anyio

HOST = "127.53.0.6"


def _lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # nobody may be there who reaps it


async def test_a_worker_that_waits_is_the_one_that_serves(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "zone.sock")
    feed.publish([service("shop/web")])
    spec = WorkerSpec(feed=str(feed.path), listen=claim_addresses([Address(HOST, 0)]), log_level="error")
    reports: dict[str, Report | None] = {}
    async with feed.serving(), started_ahead(1) as ahead, own_tasks() as tasks:
        waiting = ahead[0].pid
        supervisor = Supervisor(spec, 1, reports.__setitem__, ahead)
        tasks.start("supervisor", supervisor.keep())
        await eventually(lambda: (report := reports.get("0")) is not None and report.synced, within=20.0)
        assert (ahead, supervisor.pids, supervisor.restarts) == ([], {"0": waiting}, 0)
    assert not _lives(waiting)


async def test_a_worker_that_ended_while_it_waited_is_started_again(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "zone.sock")
    feed.publish([service("shop/web")])
    spec = WorkerSpec(feed=str(feed.path), listen=claim_addresses([Address(HOST, 0)]), log_level="error")
    reports: dict[str, Report | None] = {}
    async with feed.serving(), started_ahead(1) as ahead, own_tasks() as tasks:
        ahead[0].kill()
        await ahead[0].wait()
        supervisor = Supervisor(spec, 1, reports.__setitem__, ahead)
        tasks.start("supervisor", supervisor.keep())
        await eventually(lambda: (report := reports.get("0")) is not None and report.synced, within=20.0)
        assert supervisor.restarts == 1


async def test_workers_that_nobody_took_have_ended() -> None:
    async with started_ahead(2) as ahead:
        pids = [worker.pid for worker in ahead]
        assert all(map(_lives, pids))
    assert not any(map(_lives, pids))


_WAITS = """
import asyncio
from isthmus_dns.serving.ahead import started_ahead

async def main():
    async with started_ahead(1) as ahead:
        print(ahead[0].pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_worker_that_waits_ends_with_whoever_started_it() -> None:
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", _WAITS, stdout=asyncio.subprocess.PIPE)
    assert starter.stdout is not None
    pid = int(await starter.stdout.readline())
    starter.send_signal(signal.SIGKILL)
    await starter.wait()
    await eventually(lambda: not _lives(pid), within=20.0)


def _marked(mark: str) -> list[int]:
    """The processes that were started with this in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_a_command_that_cannot_serve_leaves_no_worker_behind(tmp_path: Path) -> None:
    mark = f"{tmp_path}/mark"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        listen = f"{HOST}:{taken.getsockname()[1]}"
        for words, sentence in (
            (["--listen", listen], "already in use"),
            (["--data-dir", str(tmp_path / "nowhere")], "does not exist"),
            (["--zone", "a..b"], "is not a DNS name"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "isthmus_cli.main", "dns", "--data-dir", str(tmp_path), *words],
                env={**os.environ, "MARK": mark},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode != 0
            assert "Traceback" not in done.stderr
            assert sentence in done.stderr
            wait_until(lambda: not _marked(mark), within=5.0)
