"""Keep the hedging delays that Envoy's runtime has in step with how long answers take."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from isthmus_core.errors import Unavailable
from isthmus_gateway.hedging import LONGEST_MS, START_MS, STEPS_MS, Answer, Hedge, decided, next_sampling, observed
from isthmus_gateway.resources.names import SAMPLE_KEY, SAMPLED_AT_FIRST, hedge_key, parse_hedge_key

TICK_S = 0.5
MOST_HEDGED = 1000
"""Envoy's main thread copies all keys when one changes: 4 ms for a thousand."""


class Runtime(Protocol):
    """Envoy's runtime, as `Admin` gives it; raises Unavailable."""

    async def runtime(self) -> dict[str, str]:
        """All keys that are set."""
        ...

    async def set_runtime(self, values: Mapping[str, str]) -> None:
        """Set keys; an empty value takes one away."""
        ...


class Hedges:
    """What is known of each service's answers, and what Envoy was told. `exists` knows the Envoy clusters of today."""

    def __init__(
        self, runtime: Runtime, exists: Callable[[str], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runtime: Final = runtime
        self._exists: Final = exists
        self._clock: Final = clock
        self._hedges: dict[str, Hedge] = {}
        self._waiting: dict[str, list[Answer]] = {}
        self._told: dict[str, str] | None = None
        self._sampling = SAMPLED_AT_FIRST
        self._samples = 0
        self._looked_at = clock()

    @property
    def delays(self) -> Counter[int]:
        """How many services that answered have which delay."""
        return Counter(hedge.delay_ms for hedge in self._hedges.values())

    def delay_ms(self, cluster: str) -> int:
        """The delay of one Envoy cluster."""
        return self._hedges.get(cluster, Hedge()).delay_ms

    def take(self, answers: Iterable[Answer]) -> None:
        """Envoy told of these."""
        for answer in answers:
            self._samples += 1
            self._waiting.setdefault(answer.cluster, []).append(answer)

    def ask_again(self) -> None:
        """Another Envoy runs: what its runtime holds is not known."""
        self._told = None

    async def run(self) -> None:
        """Decide and tell, twice a second, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.look()
            except Unavailable:
                self._told = None  # starting, or gone: asked in the next round

    async def look(self) -> None:
        """One round; raises Unavailable."""
        if self._told is None:
            told = await self._runtime.runtime()
            self._told = told
            self._adopt(told)
        self._decide()
        wanted = self._wanted(self._told)
        changed = {key: value for key, value in wanted.items() if self._told.get(key) != value}
        changed |= {key: "" for key in self._told if key not in wanted}
        if changed:
            await self._runtime.set_runtime(changed)
            self._told = wanted

    def _adopt(self, told: Mapping[str, str]) -> None:
        """Go on with what an earlier agent found out; new answers correct it."""
        for key in told:
            if (found := parse_hedge_key(key)) is not None and found[0] in (*STEPS_MS, LONGEST_MS):
                self._hedges.setdefault(found[1], Hedge(delay_ms=found[0], taken_at=self._clock()))
        if told.get(SAMPLE_KEY, "").isdecimal():
            self._sampling = int(told[SAMPLE_KEY])

    def _decide(self) -> None:
        now = self._clock()
        waiting, self._waiting = self._waiting, {}
        for cluster, answers in waiting.items():
            hedge = observed(self._hedges.get(cluster, Hedge()), answers, now)
            self._hedges[cluster] = decided(hedge, now)
        for cluster in [cluster for cluster in self._hedges if not self._exists(cluster)]:
            del self._hedges[cluster]
        seconds = now - self._looked_at
        if seconds >= 2 * TICK_S:
            self._sampling = next_sampling(self._sampling, self._samples / seconds)
            self._looked_at, self._samples = now, 0

    def _wanted(self, told: Mapping[str, str]) -> dict[str, str]:
        found = {hedge_key(c, h.delay_ms): h.delay_ms for c, h in self._hedges.items() if h.delay_ms != START_MS}
        keys: Iterable[str] = found
        if len(found) > MOST_HEDGED:
            # Slow ones first, for they suffer; the others that have it keep it, and must not change all the time.
            keys = sorted(found, key=lambda key: (-found[key], key not in told, key))[:MOST_HEDGED]
        return {SAMPLE_KEY: str(self._sampling), **dict.fromkeys(keys, "100")}
