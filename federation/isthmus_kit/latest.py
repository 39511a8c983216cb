"""Hand the newest value from one part to many: readers always get the newest, slow readers skip."""

import asyncio
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class _Nothing(Enum):
    YET = 0


class Latest(Generic[T]):
    """A value that changes; reading never waits for writers, and writing never waits for readers.

    Belongs to one event loop. Values should be frozen: every reader gets the same object.
    """

    def __init__(self, value: T | _Nothing = _Nothing.YET) -> None:
        self._value = value
        self._generation = 0 if value is _Nothing.YET else 1
        self._changed = asyncio.Event()

    def publish(self, value: T) -> None:
        """Make `value` the newest one and wake every reader."""
        self._value = value
        self._generation += 1
        # A fresh event for the next change: whoever waits holds the old one, so nobody can miss this change.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def ready(self) -> bool:
        """Whether there is a value at all."""
        return self._value is not _Nothing.YET

    @property
    def value(self) -> T:
        """The newest value; raises LookupError before the first one."""
        if self._value is _Nothing.YET:
            raise LookupError("nothing was published yet")
        return self._value

    def follow(self) -> AsyncIterator[T]:
        """Every newest value, the present one first; values that were replaced before they were read are skipped."""
        return _Follower(self)

    async def wait(self, predicate: Callable[[T], bool] = lambda _: True, timeout: float | None = None) -> T:
        """The first newest value that satisfies `predicate`; raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while True:
                changed = self._changed
                if self._value is not _Nothing.YET and predicate(self._value):
                    return self._value
                await changed.wait()

    async def _after(self, generation: int) -> tuple[T, int]:
        while self._generation <= generation:
            await self._changed.wait()
        return self.value, self._generation


class _Follower(Generic[T]):
    """An iterator, not a generator: leaving the loop early leaves nothing behind to be closed."""

    def __init__(self, source: Latest[T]) -> None:
        self._source: Final = source
        self._seen = 0

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        value, self._seen = await self._source._after(self._seen)
        return value
