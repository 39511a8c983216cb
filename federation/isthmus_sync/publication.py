"""Let several caches change together, and wake everybody who follows them once."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from isthmus_sync.cache import ResourceCache
from isthmus_sync.order import Order


class Publication:
    """What one publisher offers to all its subscribers; belongs to one event loop."""

    def __init__(
        self, caches: Iterable[ResourceCache], order: Order | None = None, large: asyncio.Lock | None = None
    ) -> None:
        """`large` is held while a long answer is made; publications that share caches share it, too."""
        self.caches: Mapping[str, ResourceCache] = {cache.type_url: cache for cache in caches}
        self.order = order
        self.large = large or asyncio.Lock()
        self.changes = 0
        self._wakes: set[asyncio.Event] = set()
        self._inside = False

    def __getitem__(self, type_url: str) -> ResourceCache:
        return self.caches[type_url]

    @contextmanager
    def change(self) -> Iterator[Mapping[str, ResourceCache]]:
        """Put and remove inside; followers see all of it at once, when the outermost block ends. Never await inside.

        Blocks may be nested: what one event causes is one change, whoever makes its parts, because the pace of a
        stream takes the number of changes for load.
        """
        if self._inside:
            yield self.caches
            return
        before = self._generation()
        self._inside = True
        try:
            yield self.caches
        finally:
            self._inside = False
            # Also after an error: what was put is in the caches, and every follower must come to know it.
            if self._generation() != before:
                self.wake()

    def wake(self) -> None:
        """Tell the followers of a change that was made in the caches themselves, which several publications share."""
        self.changes += 1
        for wake in self._wakes:
            wake.set()

    @contextmanager
    def follow(self) -> Iterator[asyncio.Event]:
        """An event that is set by every change until the block ends; the follower clears it."""
        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            yield wake
        finally:
            self._wakes.discard(wake)

    def _generation(self) -> int:
        return sum(cache.generation for cache in self.caches.values())
