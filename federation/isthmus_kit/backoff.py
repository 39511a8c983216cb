"""Decide how long to wait before the next attempt: growing, capped, and never the same for everybody."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds. The cap is low on purpose: a peer that is back must be seen within two seconds."""

    initial: float = 0.05
    cap: float = 2.0

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds before attempt `attempt` (0 = the first retry); `random` gives numbers from 0 to below 1.

        Half of the delay is fixed and half is random, so that many clients that lost the same peer spread out.
        """
        # The exponent is bounded: 2 to the power of the attempts of a peer that is away for days would not fit a float.
        ceiling = min(self.cap, self.initial * 2.0 ** min(attempt, 32))
        return ceiling * (0.5 + 0.5 * random())
