"""Let one replica at a time do singleton work, and fence its writes with the key that made it the leader."""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress

from isthmus_controller.store.client import EtcdClient
from isthmus_controller.store.errors import Compacted, Fenced, LeaseLost
from isthmus_controller.store.session import Session
from isthmus_controller.store.values import (
    Compare,
    Get,
    Operation,
    Put,
    TxnResult,
    absent,
    created_at,
)
from isthmus_core.errors import Unavailable
from isthmus_kit.backoff import Backoff

log = logging.getLogger(__name__)

_LOOK_AGAIN = 5.0
"""Seconds after which a waiting candidate looks again, whatever its watch says: a watch may die in silence."""


class Leadership:
    """What a won election gives: the condition that every write of the leader compares."""

    def __init__(self, client: EtcdClient, key: str, create_revision: int) -> None:
        self._client = client
        self.key = key
        self.create_revision = create_revision
        """Grows from leader to leader: a fencing token."""

    @property
    def guard(self) -> Compare:
        """True while we lead: our key still exists since we won."""
        return created_at(self.key, self.create_revision)

    async def txn(self, then: Sequence[Operation], when: Sequence[Compare] = ()) -> TxnResult:
        """A transaction that happens only while we lead; raises Fenced when we no longer do."""
        result = await self._client.txn((self.guard, *when), then, (Get(self.key),))
        if not result.succeeded:
            ours = result.reads[0]
            if not ours or ours[0].create_revision != self.create_revision:
                raise Fenced("the election was lost: another replica leads")
        return result

    async def resign(self) -> None:
        """Let the next candidate lead."""
        await self._client.delete(self.key)


class Election:
    """Candidates queue below a prefix in the order of their keys' creation; the first of them leads."""

    def __init__(self, client: EtcdClient, prefix: str, session: Session, *, name: str = "") -> None:
        self._client = client
        self._prefix = prefix if prefix.endswith("/") else prefix + "/"
        self._session = session
        self._name = name
        self._key = f"{self._prefix}{session.lease:x}"

    async def campaign(self) -> Leadership:
        """Wait until we lead; raises LeaseLost when our session ends first. Cancelling withdraws with the session."""
        backoff = Backoff()
        attempt = 0
        while True:
            if self._session.lost.is_set():
                raise LeaseLost("the session ended before the election was won")
            try:
                ours = await self.enter()
                candidates = (await self._client.range(self._prefix)).items
                ahead = [c for c in candidates if c.create_revision < ours]
                if not ahead:
                    return Leadership(self._client, self._key, ours)
                last = max(ahead, key=lambda c: c.create_revision)
                await self._wait_for_end_of(last.key, last.mod_revision)
                attempt = 0
            except LeaseLost:
                raise
            except Unavailable as error:
                if attempt == 0:
                    log.info("the election waits for etcd", extra={"why": str(error)})
                await asyncio.sleep(backoff.delay(attempt, random.random))
                attempt += 1

    async def leader(self) -> str | None:
        """The name of the candidate that leads, None when there is none."""
        candidates = (await self._client.range(self._prefix)).items
        first = min(candidates, key=lambda c: c.create_revision, default=None)
        return first.value.decode() if first else None

    async def enter(self) -> int:
        """Queue, unless we do already; gives the revision that decides our place. `campaign` does it by itself."""
        put = Put(self._key, self._name.encode(), self._session.lease)
        result = await self._client.txn((absent(self._key),), (put,), (Get(self._key),))
        return result.revision if result.succeeded else result.reads[0][0].create_revision

    async def _wait_for_end_of(self, key: str, revision: int) -> None:
        """Wait for the candidate just ahead of us only, so that one resignation wakes one replica."""
        with suppress(Compacted, TimeoutError):  # either way campaign looks again
            stream = await self._client.watch(key, revision + 1)
            try:
                async with asyncio.timeout(_LOOK_AGAIN):
                    while True:
                        got = await stream.read(_LOOK_AGAIN * 2)
                        if isinstance(got, list) and any(
                            c.key == key and c.value is None for r in got for c in r.changes
                        ):
                            return
            finally:
                stream.close()
