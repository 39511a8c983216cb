"""Count the streams of each cluster, and say when one opens too many, or too many in a short time."""

from collections.abc import Callable

import msgspec

from isthmus_core.errors import Unavailable
from isthmus_core.names import ClusterId

MAX_STREAMS = 128
"""Streams that one cluster may have open with this replica: its gateways, each twice, and some that are just ending."""

BURST = 2 * MAX_STREAMS
RATE = 4.0
"""What it may open at once, and each second from then on. A new stream is told the whole federation, and that costs the
others time; a hundred gateways that come back together are within the burst."""

_MEND = "See which gateways of that cluster connect again and again."


class _Account(msgspec.Struct):
    open: int
    left: float
    at: float


class Openings:
    """The streams of one replica; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts: dict[ClusterId, _Account] = {}

    def opened(self, cluster: ClusterId) -> None:
        """One more; raises Unavailable when there must not be one now."""
        now = self._clock()
        account = self._accounts.setdefault(cluster, _Account(0, BURST, now))
        account.left = min(BURST, account.left + (now - account.at) * RATE)
        account.at = now
        if account.open >= MAX_STREAMS:
            raise Unavailable(
                f"cluster {cluster} has {MAX_STREAMS} open streams with this controller, and no cluster may have more",
                _MEND,
            )
        if account.left < 1:
            raise Unavailable(
                f"cluster {cluster} has opened {BURST} streams, and for now no cluster may open more than {RATE:g} a "
                "second",
                _MEND,
            )
        account.left -= 1
        account.open += 1

    def closed(self, cluster: ClusterId) -> None:
        """One less."""
        self._accounts[cluster].open -= 1
