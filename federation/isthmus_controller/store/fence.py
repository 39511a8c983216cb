"""Keep a write whose answer got lost from happening later, after newer ones."""

import asyncio
import logging
import random

from isthmus_controller.store.client import EtcdClient
from isthmus_controller.store.session import Session
from isthmus_controller.store.values import Compare, TxnResult, unchanged
from isthmus_core.errors import IsthmusError, Unavailable
from isthmus_kit.backoff import Backoff
from isthmus_kit.latest import Latest

log = logging.getLogger(__name__)

LEASE_SECONDS = 5
PATIENCE = 2.0
"""Seconds until a first write is given up for lost: longer than etcd takes to elect another leader, as a rule."""


class Fence:
    """A leased key of this process that each of its transactions compares.

    A leader of etcd that was frozen passes on what it held when it goes on, seconds after others have led and newer
    writes were acknowledged (seen with etcd 3.7). So after a write with an unknown outcome the key is written again:
    whatever still compares its older revision cannot happen any more. Writes of a process that ended are void when
    its lease has run out.
    """

    def __init__(self, client: EtcdClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._session: Latest[Session] = Latest()
        self._guard: Compare | None = None
        self._placing = asyncio.Lock()

    async def run(self) -> None:
        """Hold the lease until cancelled."""
        backoff, attempt = Backoff(), 0
        while True:
            try:
                session = await Session.grant(self._client, LEASE_SECONDS)
                self._guard = None
                self._session.publish(session)
                attempt = 0
                await session.keep()
            except IsthmusError as error:
                # Also for a password that was changed: what is known stays, and whoever writes is told.
                log.info("the lease of the writer is not held, trying again", extra={"why": str(error)})
            await asyncio.sleep(backoff.delay(attempt, random.random))
            attempt += 1

    async def guard(self) -> Compare:
        """The condition for the next transaction; writes the key where that must be done first. Raises Unavailable."""
        async with self._placing:
            if self._guard is None:
                try:
                    session = await self._session.wait(lambda held: not held.lost.is_set(), timeout=PATIENCE)
                except TimeoutError:
                    raise Unavailable("etcd grants no lease, and nothing is written without one") from None
                key = f"{self._prefix}{session.lease:x}"
                revision = await self._client.put(key, b"", lease=session.lease, timeout=PATIENCE)
                self._guard = unchanged(key, revision)
            return self._guard

    def move(self, guard: Compare) -> None:
        """Transactions with this guard must not happen any more, if they have not yet."""
        if self._guard == guard:
            self._guard = None


def stood(guard: Compare, failed: TxnResult) -> bool:
    """Whether the guard held in a transaction that failed, and whose other branch ended with `Get(guard.key)`."""
    found = failed.reads[-1]
    return bool(found) and found[0].mod_revision == guard.operand
