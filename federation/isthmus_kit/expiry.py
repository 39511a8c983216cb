"""Name certificates that end soon where people look: in readiness, the log and the metrics."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Gauge

from isthmus_kit.latest import Latest
from isthmus_kit.pki import Identity
from isthmus_kit.pki.expiry import ending, lasting_of
from isthmus_kit.readiness import Readiness

log = logging.getLogger(__name__)


class ExpiryWatch:
    """Names certificates that end soon in readiness, once a day in the log, and tells all ends as a metric."""

    def __init__(
        self,
        readiness: Readiness,
        registry: CollectorRegistry,
        issuer: str,
        mend: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._readiness = readiness
        self._issuer = issuer
        self._mend = mend
        self._clock = clock
        self._said = ""
        self._ends = Gauge(
            "isthmus_certificate_expiry_timestamp_seconds",
            "When a certificate ends that nothing renews by itself (Unix time)",
            ["certificate"],
            registry=registry,
        )

    async def run(self, identity: Latest[Identity]) -> None:
        """Look whenever the leaf was renewed, which is twice an hour; never ends by itself."""
        async for newest in identity.follow():
            self.look(newest)

    def look(self, identity: Identity) -> None:
        """Take in what an identity stands on."""
        certificates = lasting_of(identity, self._issuer, self._mend)
        for kind in {one.kind for one in certificates}:
            self._ends.labels(kind).set(min(one.ends.timestamp() for one in certificates if one.kind == kind))
        sentence = ending(certificates, self._clock())
        self._readiness.warn("certificates", sentence)
        if sentence and sentence != self._said:  # it counts the days
            log.warning("a certificate ends soon", extra={"reason": sentence})
        self._said = sentence
