"""Let several caches change together, and wake everybody who follows them once."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from isthmus_sync.cache import ResourceCache
from isthmus_sync.order import Order


class Publication:
    """What one publisher offers to all its subscribers; belongs to one event loop."""

    def __init__(self, caches: Iterable[ResourceCache], order: Order | None = None) -> None:
        self.caches: Mapping[str, ResourceCache] = {cache.type_url: cache for cache in caches}
        self.order = order
        self.changes = 0
        self._wakes: set[asyncio.Event] = set()

    def __getitem__(self, type_url: str) -> ResourceCache:
        return self.caches[type_url]

    @contextmanager
    def change(self) -> Iterator[Mapping[str, ResourceCache]]:
        """Put and remove inside; followers see all of it at once, at the end. Never await inside."""
        before = self._generation()
        try:
            yield self.caches
        finally:
            # Also after an error: what was put is in the caches, and every follower must come to know it.
            if self._generation() != before:
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
