"""A server of the bench that runs: where it answers, what it has used, and the core that it is held to."""

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
LOAD_CORE = CORES[-1]


class Running(msgspec.Struct, frozen=True):
    name: str
    host: str
    port: int
    pid: int

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all threads so far, to the nanosecond (the clock ticks of `stat` are too coarse)."""
        return sum(int((task / "schedstat").read_text().split()[0]) for task in _tasks(self.pid)) / 1e9

    @property
    def resident_mb(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def start(
    core: int, *command: str, stdin: int = asyncio.subprocess.DEVNULL, stdout: int | IO[bytes], stderr: IO[bytes] | None
) -> asyncio.subprocess.Process:
    """Run a program of the bench on one core; it ends with us.

    Held to the core before it starts, because Go and others count their cores then. Root also puts it before all that
    runs beside the bench; the scheduler weighs whole sessions, so each program gets one of its own.
    """
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(core), *command),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    with suppress(OSError):
        Path(f"/proc/{process.pid}/autogroup").write_text("-19")
    return process


@contextmanager
def foremost(*servers: Running) -> Iterator[None]:
    """In the block the servers, we, and the load that we start run at once when they have something to do.

    The scheduler lets others finish their slice of 3 ms first, however little they weigh: that would be the p99 of
    every server. Only for parts that leave the cores time; without root nothing changes.
    """
    tasks = [int(task.name) for pid in (os.getpid(), *(one.pid for one in servers)) for task in _tasks(pid)]
    try:
        _schedule(tasks, os.SCHED_RR, 1)
        yield
    finally:
        _schedule(tasks, os.SCHED_OTHER, 0)


def _tasks(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/task").iterdir()


def _schedule(tasks: Iterable[int], policy: int, priority: int) -> None:
    for task in tasks:
        with suppress(ProcessLookupError, PermissionError):
            os.sched_setscheduler(task, policy, os.sched_param(priority))


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
    await process.wait()
