"""What a test left behind: tasks, threads and child processes that were not there before it."""

import asyncio
import threading
from pathlib import Path

# grpc.aio keeps one poller thread for the process once it has been used.
LASTING_THREADS = ("_poll_wrapper",)


def children() -> set[int]:
    """The pids of this process's children, ended but not yet reaped ones too."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        try:
            found |= {int(pid) for pid in (thread / "children").read_text().split()}
        except FileNotFoundError:
            continue  # the thread ended meanwhile
    return found


def name_of(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except FileNotFoundError:
        return f"{pid}"
    return f"{pid} ({command or 'ended, not reaped'})"


def threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if not any(lasting in t.name for lasting in LASTING_THREADS)}


def tasks() -> set[asyncio.Task[object]]:
    """The running loop's tasks, without the two that anyio's test runner keeps."""
    return {task for task in asyncio.all_tasks() if not _of(task).startswith("TestRunner.")}


def _of(task: asyncio.Task[object]) -> str:
    return getattr(task.get_coro(), "__qualname__", "?")


async def leaked_tasks(grace_s: float = 1.0) -> list[str]:
    """The tasks that do not end within the grace."""
    loop = asyncio.get_running_loop()
    end = loop.time() + grace_s
    while (extra := tasks()) and loop.time() < end:
        await asyncio.sleep(0.01)
    return sorted(f"{task.get_name()} ({_of(task)})" for task in extra)
