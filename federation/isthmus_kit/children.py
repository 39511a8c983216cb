"""Start child processes that never outlive their parent, and end them in order."""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: int = signal.SIGTERM) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends `number` to the child when its parent ends, however that ends (prctl(2))."""
    parent = os.getpid()

    def ask_the_kernel() -> None:
        # Until it becomes another program, the child would take the signal with its parent's routine, for nobody.
        signal.signal(number, signal.SIG_DFL)
        _libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # the parent was gone before the kernel was asked
            os._exit(1)

    return ask_the_kernel


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`, the nearest first (proc(5), `children`)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.extend(int(word) for word in task.read_text().split())
    return [*found, *(lower for child in found for lower in descendants(child))]


def freeze(tops: Iterable[int]) -> list[int]:
    """Stop (SIGSTOP) processes and all below them, and give them all: then they can be killed as one.

    Killed one by one instead, a parent would see its child gone and start another, which nobody knows of.
    """
    tops = list(tops)
    frozen: list[int] = []
    while fresh := [pid for pid in dict.fromkeys([*tops, *_below(tops)]) if pid not in frozen]:
        send(fresh, signal.SIGSTOP)
        while any(_may_start_others(pid) for pid in fresh):
            time.sleep(0.001)
        frozen += fresh
    return frozen


def _below(tops: Iterable[int]) -> list[int]:
    return [lower for top in tops for lower in descendants(top)]


def _may_start_others(pid: int) -> bool:
    """Whether a process has not taken SIGSTOP yet; one that waits for a disk ("D") takes it before its next line."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "RS"
    except OSError:
        return False


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process that still lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def end(child: asyncio.subprocess.Process, grace: float) -> int:
    """Ask a child to stop, insist after `grace` seconds, and give its exit status."""
    if child.returncode is None:
        send([child.pid], signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                return await child.wait()
        except TimeoutError:
            send([child.pid], signal.SIGKILL)
    return await child.wait()
