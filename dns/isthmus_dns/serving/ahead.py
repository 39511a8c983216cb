"""Start workers before it is known what they serve: they import what they need while we read and check settings."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

Ahead = list[asyncio.subprocess.Process]
"""Workers that wait for their specification; whoever takes one ends it."""

_LONGEST_REPORT = 1 << 20


async def start_worker(theirs: socket.socket | None = None) -> asyncio.subprocess.Process:
    """A worker that waits for its specification, and inherits the socket `theirs`."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "isthmus_dns.serving.waiting"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        limit=_LONGEST_REPORT,
        start_new_session=True,
        pass_fds=() if theirs is None else (theirs.fileno(),),
    )


@asynccontextmanager
async def started_ahead(workers: int) -> AsyncIterator[Ahead]:
    """So many waiting workers; those that nobody took have ended after the block."""
    waiting: Ahead = []
    try:
        for _ in range(workers):
            waiting.append(await start_worker())
        yield waiting
    finally:
        for worker in waiting:
            with suppress(ProcessLookupError):
                worker.kill()  # it has not begun with anything
        for worker in waiting:
            await worker.wait()
