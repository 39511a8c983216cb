"""Run a long-lived process until a signal asks it to stop, and show its errors as one sentence."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from isthmus_cli.garbage import collect_garbage
from isthmus_core.errors import IsthmusError

# gRPC writes lines of its own to standard error (a peer that went away, a handshake that failed); the same things are
# in our logs, with their fields. It reads the variable when it is imported, which is later.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


log = logging.getLogger(__name__)


def run_until_signal(start: Callable[[asyncio.Event], Awaitable[None]], *, renewable: bool = False) -> None:
    """Run `start(stop)`; SIGTERM and SIGINT set `stop`, a second one ends it at once.

    Where it is `renewable`, SIGUSR2 starts the same command anew in this process, for what it left running goes on.
    Raises the IsthmusError that ended it, also out of a group of errors, so that a person reads one sentence.
    """
    collect_garbage()
    try:
        asyncio.run(_run(start, renewable))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None  # the second signal
    except BaseExceptionGroup as group:
        if (error := _first(group)) is not None:
            raise error from None
        raise


async def _run(start: Callable[[asyncio.Event], Awaitable[None]], renewable: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _ask_to_stop, stop, asyncio.current_task())
    if renewable:
        loop.add_signal_handler(signal.SIGUSR2, _start_anew)
    await start(stop)


def _start_anew() -> None:
    """Whoever must not lose anything when it is killed need not be ended in order to be started again."""
    log.info("the process starts itself anew", extra={"command": sys.orig_argv})
    # Asked once more before it heeds the signal it would be ended by it; what is ignored stays so (execve(2)).
    heeding = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        os.execv(sys.executable, sys.orig_argv)
    except OSError as error:
        signal.signal(signal.SIGUSR2, heeding)
        log.warning("the process could not start itself anew and goes on", extra={"reason": error.strerror})


def _ask_to_stop(stop: asyncio.Event, task: "asyncio.Task[None] | None") -> None:
    if stop.is_set() and task is not None:
        task.cancel()
    stop.set()


def _first(group: BaseExceptionGroup[BaseException]) -> IsthmusError | None:
    for error in group.exceptions:
        if isinstance(error, IsthmusError):
            return error
        if isinstance(error, BaseExceptionGroup) and (found := _first(error)) is not None:
            return found
    return None
