"""Which names are asked for most, in bounded memory: a mergeable summary of heavy hitters (Misra and Gries)."""

from collections.abc import Iterable, Mapping
from heapq import nlargest
from operator import itemgetter

import msgspec

from isthmus_dns.message import wire


class Hitter(msgspec.Struct, frozen=True, order=True):
    """A name, its type, and about how many times a second it was asked for (too low by at most the window's error)."""

    per_second: float
    name: str
    rtype: str


class HeavyHitters:
    """Counts questions a batch at a time; keeps at most twice `size` of them, whatever names are thrown at it.

    Of a stream of n questions every count is too low by at most n / size ("Mergeable Summaries", Agarwal et al.).
    """

    def __init__(self, size: int = 1000, window: float = 10.0) -> None:
        self._size = size
        self._window = window
        self._current: dict[bytes, float] = {}
        self._last: Mapping[bytes, float] = {}
        self._tops: dict[int, list[Hitter]] = {}
        self._began: float | None = None

    def add(self, asked: Mapping[bytes, float]) -> None:
        """Count questions (name, type and class in wire form, lower case), each as often as it was asked."""
        counts = self._current
        for question, times in asked.items():
            counts[question] = counts.get(question, 0) + times
        if len(counts) > 2 * self._size:
            least = sorted(counts.values(), reverse=True)[self._size]
            self._current = {key: count - least for key, count in counts.items() if count > least}

    def tick(self, now: float) -> None:
        """Close the window when its time is over."""
        if self._began is None:
            self._began = now
        elif now - self._began >= self._window:
            self._last, self._current, self._began = self._current, {}, now
            self._tops.clear()

    def top(self, count: int = 20) -> list[Hitter]:
        """The questions asked for most in the last whole window, the first one first."""
        if count not in self._tops:
            most = nlargest(count, self._last.items(), key=itemgetter(1))
            self._tops[count] = [
                Hitter(times / self._window, wire.name_text(key[:-4]), _type_text(int.from_bytes(key[-4:-2], "big")))
                for key, times in most
            ]
        return self._tops[count]


def merge_top(tops: Iterable[Iterable[Hitter]], count: int = 20) -> list[Hitter]:
    """What several workers saw, together."""
    total: dict[tuple[str, str], float] = {}
    for top in tops:
        for hitter in top:
            key = (hitter.name, hitter.rtype)
            total[key] = total.get(key, 0.0) + hitter.per_second
    merged = (Hitter(rate, name, rtype) for (name, rtype), rate in total.items())
    return sorted(merged, reverse=True)[:count]


def _type_text(rtype: int) -> str:
    return wire.TYPES.get(rtype, f"TYPE{rtype}")
