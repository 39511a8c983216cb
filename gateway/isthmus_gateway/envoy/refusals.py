"""Count the connections that the ingress refused for what their certificate says, and say so while it goes on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

from isthmus_core.errors import Unavailable
from isthmus_kit.readiness import Readiness

DENIED = "ingress.rbac.denied"
EVERY_S = 5.0
FRESH_S = 600.0
"""So long a refusal is among the warnings."""

log = logging.getLogger(__name__)

_MEND = "Look for somebody who has the CA of a member: certificates of gateways have one name each."
_PATTERN = "^" + DENIED.replace(".", r"\.") + "$"


class IngressRefusals:
    """Asks Envoy; `stats` gives its counters by a regular expression, `clock` seconds."""

    def __init__(
        self,
        stats: Callable[[str], Awaitable[Mapping[str, int]]],
        readiness: Readiness,
        clock: Callable[[], float],
    ) -> None:
        self.count = 0
        """Since Envoy began, at first; an Envoy that is started again begins with 0, and this goes on."""
        self._stats = stats
        self._readiness = readiness
        self._clock = clock
        self._seen: int | None = None
        self._last: float | None = None
        self._recent = 0

    async def run(self) -> NoReturn:
        """Ask for ever."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Ask once; an Envoy that does not answer is somebody else's matter."""
        try:
            told = (await self._stats(_PATTERN)).get(DENIED, 0)
        except Unavailable:
            return
        if self._seen is None:
            self.count = self._seen = told  # of an adopted Envoy: who knows when that was
            return
        more = told - self._seen if told >= self._seen else told
        self._seen = told
        now = self._clock()
        if more:
            if self._last is None:
                log.warning("connections to the ingress are refused for their certificates", extra={"count": more})
            self.count, self._recent, self._last = self.count + more, self._recent + more, now
        elif self._last is not None and now - self._last > FRESH_S:
            self._last, self._recent = None, 0
        self._readiness.warn("refused callers", self._sentence() if self._last is not None else "")

    def _sentence(self) -> str:
        who = "a connection was" if self._recent == 1 else f"{self._recent} connections were"
        return f"{who} refused at the ingress for what the certificate says, the last one within ten minutes. {_MEND}"
