"""A server of the bench that runs: where it answers, what it has used, and the core that it is held to."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
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
    pids: tuple[int, ...]
    """The process that was started, then those that it started."""

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all threads so far, to the nanosecond (the clock ticks of `stat` are too coarse)."""
        tasks = [task for pid in self.pids for task in _tasks(pid)]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    @property
    def resident_mb(self) -> float:
        """What its process holds; a worker, if it has workers."""
        pages = int(Path(f"/proc/{self.pids[-1]}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def start(
    cores: Sequence[int], *command: str, stdout: int | IO[bytes], stderr: IO[bytes] | None
) -> asyncio.subprocess.Process:
    """Run a program of the bench on these cores only; it ends with us.

    Held to them before it starts, because Go and others count their cores then.
    """
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "taskset", "-c", ",".join(map(str, cores)), *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    favour(process.pid)
    return process


def favour(pid: int) -> None:
    """Root puts the leader of a session before all that runs beside the bench: the scheduler weighs whole sessions."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("-19")


def hold(pid: int, core: int) -> None:
    for task in _tasks(pid):
        os.sched_setaffinity(int(task.name), {core})


def children(pid: int) -> list[int]:
    return [int(child) for task in _tasks(pid) for child in (task / "children").read_text().split()]


@contextmanager
def foremost(*servers: Running) -> Iterator[None]:
    """In the block the servers, we, and the load that we start run at once when they have something to do.

    The scheduler lets others finish their slice of 3 ms first, however little they weigh: that would be the p99 of
    every server. Only for parts that leave the cores time; without root nothing changes.
    """
    tasks = [
        int(task.name) for pid in (os.getpid(), *(pid for one in servers for pid in one.pids)) for task in _tasks(pid)
    ]
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
