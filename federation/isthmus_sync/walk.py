"""Go through everything that a cache holds, part by part, for a peer that has to be told all of it."""

from collections.abc import Callable, Sequence

import msgspec

from isthmus_sync.cache import Resource, ResourceCache

_SMALLEST = 100
"""Bytes of a framed resource, about, at least."""


class Portion:
    """How many bytes of resources one response carries: little at first, twice as much whenever the peer is quick.

    What stands in our memory for a peer that takes nothing is one such response of each type.
    """

    QUICK = 1.0
    """Seconds from a response to its answer. With twice as much a peer still has a good part of its patience left."""

    def __init__(self, first: int, limit: int) -> None:
        self.bytes = min(first, limit)
        self._limit = limit

    def answered(self, seconds: float) -> None:
        """A response was answered after so long."""
        if seconds < self.QUICK:
            self.bytes = min(self._limit, 2 * self.bytes)

    def count(self, resources: int) -> int:
        """How many of so many resources one response carries, about, at most."""
        return min(resources, self.bytes // _SMALLEST)


class Walk(msgspec.Struct):
    """Where one stream is in the names of a cache. They are shared by many streams: each holds a number of its own."""

    names: Sequence[str]
    since: int  # the round in which it began
    at: int = 0

    def take(self, cache: ResourceCache, limit: int, wanted: Callable[[Resource], bool]) -> list[Resource]:
        """The next resources that are wanted, as many as fit, but one at least."""
        taken: list[Resource] = []
        size = 0
        for at in range(self.at, len(self.names)):
            resource = cache.get(self.names[at])
            if resource is None or not wanted(resource):
                continue
            size += len(resource.framed)
            if taken and size > limit:
                self.at = at
                return taken
            taken.append(resource)
        self.at = len(self.names)
        return taken

    @property
    def left(self) -> int:
        """How many names are to come."""
        return len(self.names) - self.at
