"""A disk that is full: traffic goes on, verdicts still arrive, and Envoy is adopted and started as ever."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus_core.errors import Unavailable
from isthmus_core.names import ClusterId
from isthmus_gateway.envoy import EnvoyFiles, EnvoyProcess, EnvoyState, find_envoy
from isthmus_gateway.resources import EnvoySettings, build_bootstrap
from isthmus_kit.files import write_file
from isthmus_kit.tasks import own_tasks
from support.addresses import LoopbackNet, free_port
from support.fake_controller import FakeController
from support.running_gateway import Backend, answered_by, cluster
from support.waiting import eventually

pytestmark = pytest.mark.anyio
PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk to fill")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Ballast:
    """Takes all the room there is, the rest of the pages of `logs` too."""

    def __init__(self, folder: Path, *logs: Path) -> None:
        self._file = folder / "ballast"
        for log in logs:
            with log.open("ab") as file:
                file.write(b"\n" * (-log.stat().st_size % PAGE))
        with self._file.open("wb", buffering=0) as file:
            for size in (64 * 1024, PAGE):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
        with pytest.raises(Unavailable, match="the disk is full"):
            write_file(folder / "more", b"more")

    def drop(self) -> None:
        self._file.unlink()


async def test_a_backend_that_recovers_while_the_disk_is_full_is_used_again(
    disk: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", disk, controller, net)
    first = net.next()
    port = free_port(first)
    one = Backend("one", first, port)
    east.describe(first, port=port)
    async with controller.serving(), one.serving(), east.running():
        await eventually(east.ready, 20)
        vip = await eventually(east.vip, 5)
        await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 10)
        one.sick = True
        await eventually(lambda: controller.capacity("east", "shop/echo") == (0, 1), 10)
        log = east.folder / "health.log"
        ballast = Ballast(disk, log)
        size = log.stat().st_size
        one.sick = False
        await eventually(lambda: answered_by(vip, "one"), 5)
        await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 15)
        assert log.stat().st_size == size, "the verdict had room in the log"
        ballast.drop()


async def test_an_envoy_is_adopted_and_started_on_a_full_disk(disk: Path) -> None:
    files = EnvoyFiles(disk)
    settings = EnvoySettings("east/1", ClusterId("east"), str(files.xds_socket), str(files.admin_socket))
    bootstrap = build_bootstrap(settings)
    states: list[EnvoyState] = []
    process = EnvoyProcess(find_envoy(), files)
    try:
        async with own_tasks() as tasks:
            tasks.start("envoy", process.run(bootstrap, states.append))
            await eventually(lambda: states, 10)
        Ballast(disk)
        async with own_tasks() as tasks:
            tasks.start("envoy", process.run(bootstrap, states.append))
            await eventually(lambda: len(states) == 2, 10)
            assert states[1] == EnvoyState(True, states[0].pid, adopted=True)
            os.kill(states[0].pid, signal.SIGKILL)
            await eventually(lambda: len(states) == 4, 10)
            assert states[3].running and process.running_pid() == states[3].pid != states[0].pid
    finally:
        await process.stop(drain=0.0)
    assert process.running_pid() is None
