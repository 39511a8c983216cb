"""Decide how long a publisher gathers changes: not at all when it is quiet, and up to 50 ms under load."""


class Pace:
    """The first change goes at once. When changes come faster than they are sent, the window doubles up to its limit.

    Nothing is queued meanwhile: what is sent at the end is the newest state (latest wins).
    """

    def __init__(self, first: float = 0.001, limit: float = 0.050) -> None:
        self._first = first
        self._limit = limit
        self._window = 0.0
        self._gathered = 0
        self._sent_at = float("-inf")

    def gathered(self, changes: int) -> None:
        """That many changes were published since the last time."""
        self._gathered += changes

    def delay(self, now: float) -> float:
        """Seconds to go on gathering; 0 means send now."""
        return max(0.0, self._sent_at + self._window - now)

    def sent(self, now: float) -> None:
        """All that was gathered has been sent."""
        if now - self._sent_at > 2 * self._limit:
            self._window = 0.0  # it was quiet
        if self._gathered > 1:
            self._window = min(self._limit, max(self._first, self._window * 2))
        else:
            self._window = self._window / 2 if self._window > self._first else 0.0
        self._gathered = 0
        self._sent_at = now
