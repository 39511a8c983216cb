"""Give every task an owner: parts have names, end when their owner leaves, and may not end unasked."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager


class PartEnded(RuntimeError):
    """A part that should run as long as its owner returned by itself: a bug."""


class Owner:
    """Starts named parts; made by `own_tasks`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._parts: set[asyncio.Task[None]] = set()

    def start(self, name: str, part: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run `part` until the owner leaves. Ending earlier is an error that stops the owner and all its parts."""
        task = self._add(name, _endless(name, part))
        # Cancelled before its first step, the wrapper never awaits the part; closing a finished one does nothing.
        task.add_done_callback(lambda _: part.close())
        return task

    def once(self, name: str, part: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run `part`, which may end by itself; it is cancelled when the owner leaves first."""
        return self._add(name, part)

    def _add(self, name: str, part: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self._group.create_task(part, name=name)
        self._parts.add(task)
        task.add_done_callback(self._parts.discard)
        return task

    def stop(self) -> None:
        """Cancel all parts; the owner waits for them when it leaves."""
        for task in tuple(self._parts):
            task.cancel()


@asynccontextmanager
async def own_tasks() -> AsyncIterator[Owner]:
    """The owner of the parts of a `with` block: at its end, however it ends, every part is cancelled and awaited.

    A part that fails, or ends unasked, cancels the block and its siblings and comes out as an ExceptionGroup.
    """
    try:
        async with asyncio.TaskGroup() as group:
            owner = Owner(group)
            try:
                yield owner
            finally:
                owner.stop()
    except BaseExceptionGroup:
        _cancel_again(asyncio.current_task())
        raise


def _cancel_again(task: "asyncio.Task[object] | None") -> None:
    """Before Python 3.13 TaskGroup loses a cancellation that meets an error of one of its tasks (cpython#116720).

    Whoever acts on the error and goes on, such as a loop that connects again, is then cancelled where it waits next.
    """
    if task is not None and task.cancelling():
        task.uncancel()
        task.cancel()


async def _endless(name: str, part: Coroutine[object, object, None]) -> None:
    await part
    raise PartEnded(f"{name} ended although nobody asked it to")
