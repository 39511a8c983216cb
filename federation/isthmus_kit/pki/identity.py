"""Keep a leaf fresh: decide when to renew it, and publish every new one as the newest value."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum

import msgspec

from isthmus_core.errors import IsthmusError
from isthmus_core.spiffe import SpiffeId
from isthmus_kit.latest import Latest
from isthmus_kit.pki.certificates import Authority, Subject, issue_leaf
from isthmus_kit.pki.checks import decode_certificates, spiffe_id_of

log = logging.getLogger(__name__)

# How often the clock is looked at while waiting: a machine that slept, or whose clock was set, is seen by then.
_LOOK = timedelta(seconds=30)


class Identity(msgspec.Struct, frozen=True):
    """What a process shows to its peers, and whom it believes. `repr` hides the key."""

    id: SpiffeId
    chain: bytes
    """PEM: the leaf, then the authority that issued it."""
    key: bytes
    """PEM, PKCS #8."""
    roots: bytes
    """PEM: every root of the federation that is trusted now."""
    issued_at: datetime
    not_after: datetime

    def __repr__(self) -> str:
        return f"Identity({self.id}, not_after={self.not_after.isoformat()})"


class Step(Enum):
    """What to do about an identity now."""

    KEEP = "keep"
    RENEW = "renew"


def next_step(identity: Identity, now: datetime, jitter: float = 0.0) -> Step:
    """Renew at half of the lifetime, up to a tenth earlier as `jitter` (0 to 1) says, so that not all renew at once.

    A clock that was set back before the issue renews as well: nobody would accept that leaf.
    """
    early = timedelta(0) <= now - identity.issued_at < renewal_age(identity, jitter)
    return Step.KEEP if early and now < identity.not_after else Step.RENEW


def renewal_age(identity: Identity, jitter: float = 0.0) -> timedelta:
    """The age at which an identity is renewed: half of its lifetime, minus up to a tenth of that."""
    return (identity.not_after - identity.issued_at) / 2 * (1 - 0.1 * jitter)


def issue_identity(issuer: Authority, roots: bytes, subject: Subject, now: datetime, lifetime: timedelta) -> Identity:
    """A fresh identity from an authority; raises InvalidInput when the authority has expired."""
    chain, key = issue_leaf(issuer, subject, now, lifetime)
    leaf = decode_certificates(chain, "the new leaf")[0]
    return Identity(spiffe_id_of(leaf), chain, key, roots, now, leaf.not_valid_after_utc)


class IdentitySource:
    """Publishes the newest identity to `latest`; the first one is there as soon as the source exists.

    `issue` makes an identity valid from the given moment; it is called again for every renewal, so it may read its
    authority anew. `jitter` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        issue: Callable[[datetime], Identity],
        jitter: Callable[[], float],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._issue = issue
        self._jitter = jitter
        self._clock = clock
        self.latest: Latest[Identity] = Latest(issue(clock()))
        self.trouble: str = ""
        """Why the last renewal failed; empty when it did not. The last good identity stays."""

    @property
    def value(self) -> Identity:
        """The newest identity."""
        return self.latest.value

    async def run(self) -> None:
        """Renew for ever; never ends by itself."""
        jitter = self._jitter()
        while True:
            if next_step(self.value, self._clock(), jitter) is Step.RENEW:
                self._renew()
                jitter = self._jitter()
            await asyncio.sleep(min(_LOOK, max(self._wait(jitter), timedelta(seconds=1))).total_seconds())

    def _wait(self, jitter: float) -> timedelta:
        return self.value.issued_at + renewal_age(self.value, jitter) - self._clock()

    def _renew(self) -> None:
        try:
            self.latest.publish(self._issue(self._clock()))
        except IsthmusError as error:
            # Half of the lifetime is left: the old leaf goes on while somebody mends this; readiness shows `trouble`.
            if str(error) != self.trouble:
                log.warning("the identity was not renewed", extra={"id": str(self.value.id), "reason": str(error)})
            self.trouble = str(error)
        else:
            self.trouble = ""
            log.info(
                "identity renewed", extra={"id": str(self.value.id), "not_after": self.value.not_after.isoformat()}
            )
