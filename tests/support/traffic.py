"""A steady load while something breaks, and what it saw."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isthmus_cli.demo.load import HttpLoad, Load, TcpLoad
from support.waiting import eventually

__all__ = ["HttpLoad", "LineLoad", "answered_by", "loading", "serves"]


class LineLoad(TcpLoad):
    """The same load for the tests' own backend, which answers `<name> <line>`."""

    def _name_in(self, line: str) -> str:
        name, _, said = line.partition(" ")
        if said != "isthmus":
            raise ValueError(f"a broken answer: {line!r}")
        return name


@asynccontextmanager
async def loading(load: Load, first: str) -> AsyncIterator[Load]:
    """Run a load around a block; waits before the block until `first` alone answers, and settles after it."""
    await answered_by(load, first)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(load.run(), name="load")
        try:
            await asyncio.sleep(0.5)
            yield load
            await asyncio.sleep(0.5)
        finally:
            task.cancel()


async def answered_by(load: Load, name: str, within: float = 20.0) -> None:
    """Wait until five requests in a row are answered by `name`."""

    async def steady() -> bool:
        return [await load.probe() for _ in range(5)] == [name] * 5

    try:
        await eventually(steady, within, every=0.05)
    finally:
        load.close()


async def serves(load: Load, name: str, within: float = 10.0) -> None:
    """Wait until `name` answers requests of a running load, also of one that a busy machine has let fall behind."""

    def lately() -> bool:
        now = time.monotonic()
        return any(one.by == name and one.answered >= now - 0.3 for one in load.seen)

    await eventually(lately, within)
