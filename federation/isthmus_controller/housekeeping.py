"""Do what only one replica may do: clean up after removals, forget old tokens, note when a session was lost."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from isthmus_controller.candidates import WORK, Candidate
from isthmus_controller.registry.records import encode
from isthmus_controller.store import (
    ClusterKey,
    Delete,
    Election,
    ElectionKey,
    EtcdClient,
    GatewayKey,
    Leadership,
    Put,
    Session,
    SessionKey,
    TokenKey,
    absent,
    present,
)
from isthmus_controller.view import View
from isthmus_core.errors import IsthmusError, Unavailable
from isthmus_kit.backoff import Backoff
from isthmus_kit.tasks import own_tasks
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.streams import first_cause

log = logging.getLogger(__name__)

LEASE_SECONDS = 10
_BATCH = 50


class Housekeeping:
    """The singleton work. Every write compares the key that made us the leader, in the same transaction."""

    def __init__(
        self,
        client: EtcdClient,
        view: View,
        own: Candidate,
        every: float = 1.0,
        now_ms: Callable[[], int] = lambda: round(time.time() * 1000),
    ) -> None:
        self._client = client
        self._view = view
        self._own = own
        self._every = every
        self._now_ms = now_ms
        self._missing: set[SessionKey] = set()
        self.leading = False
        self._stood = False
        self._told = ""

    async def run(self) -> None:
        """Stand for election for ever; lead when elected.

        Raises InvalidInput or Refused when etcd does not take the very first candidature: this replica may not write.
        """
        backoff, attempt = Backoff(), 0
        task = asyncio.current_task()
        while True:
            try:
                await self._stand()
            except BaseExceptionGroup as group:
                why = first_cause(group)
                if not self._bearable(why):
                    raise
                # Losing the lease or the election is nothing special: another replica leads, and we stand again.
                self._say_why_not(str(why))
            except IsthmusError as why:
                if not self._bearable(why):
                    raise
                self._say_why_not(str(why))
            if task is not None and task.cancelling():
                # A group that ends with errors of its parts says nothing of the cancellation that ended it.
                raise asyncio.CancelledError
            await asyncio.sleep(backoff.delay(attempt, random.random))
            attempt = min(attempt + 1, 4)

    def _bearable(self, why: BaseException) -> bool:
        """Whether we go on: once it has worked, a right or a password that was taken away may be given back."""
        return isinstance(why, IsthmusError if self._stood else Unavailable)

    def _say_why_not(self, why: str) -> None:
        if why != self._told:
            log.info("this replica does not lead", extra={"why": why})
        self._told = why

    async def _stand(self) -> None:
        session = await Session.grant(self._client, LEASE_SECONDS)
        try:
            async with own_tasks() as owner:
                owner.start("election lease", session.keep())
                election = Election(
                    self._client, self._view.keys.under(ElectionKey, WORK), session, name=self._own.text()
                )
                await election.enter()
                self._stood = True
                leadership = await election.campaign()
                log.info("this replica leads", extra={"replica": self._own.id})
                self.leading, self._told = True, ""
                while True:
                    await self._work(leadership)
                    await asyncio.sleep(self._every)
        finally:
            self.leading = False
            await self._give_back(session)

    async def _give_back(self, session: Session) -> None:
        """Let the next replica lead at once, if etcd answers."""
        try:
            async with asyncio.timeout(1.0):
                await session.revoke()
        except (TimeoutError, IsthmusError):
            return  # the lease runs out by itself

    async def _work(self, leadership: Leadership) -> None:
        if not self._view.synced:
            return
        await self._forget_tokens(leadership)
        await self._sweep_orphans(leadership)
        await self._note_losses(leadership)

    async def _forget_tokens(self, leadership: Leadership) -> None:
        now = self._now_ms()
        expired = [
            key
            for key, held in self._view.held(self._view.keys.prefix(TokenKey)).items()
            if (at := _expiry(held.value)) is not None and at <= now
        ]
        for start in range(0, len(expired), _BATCH):
            batch = expired[start : start + _BATCH]
            await leadership.txn([Delete(key) for key in batch])
            log.info("expired join tokens were deleted", extra={"tokens": len(batch)})

    async def _sweep_orphans(self, leadership: Leadership) -> None:
        """What a removal left behind that was interrupted by a crash."""
        keys = self._view.keys
        orphans = self._view.registry.orphans()
        for cluster in sorted({key.cluster for key in orphans}):
            paths = [keys.path(key) for key in orphans if key.cluster == cluster]
            for start in range(0, len(paths), _BATCH):
                batch = [Delete(path) for path in paths[start : start + _BATCH]]
                await leadership.txn(batch, [absent(keys.path(ClusterKey(cluster)))])
            log.info("left-overs of a removed cluster were deleted", extra={"cluster": cluster, "keys": len(paths)})

    async def _note_losses(self, leadership: Leadership) -> None:
        """Leave the time of loss where a lease ran out, so that every replica tells the same; nothing else changes."""
        registry, keys = self._view.registry, self._view.keys
        missing = {
            SessionKey(gateway.cluster, gateway.gateway)
            for gateway in registry.known_gateways()
            if registry.session(gateway.cluster, gateway.gateway) is None
        }
        # Seen twice: a gateway that is just introducing itself has no session for a moment.
        for key in sorted(missing & self._missing, key=lambda k: (k.cluster, k.gateway)):
            lost = encode(pb.Session(held=False, since_ms=self._now_ms()))
            when = [
                absent(keys.path(key)),
                present(keys.path(GatewayKey(key.cluster, key.gateway))),
                present(keys.path(ClusterKey(key.cluster))),
            ]
            await leadership.txn([Put(keys.path(key), lost)], when)
            log.warning("a gateway is not connected any more", extra={"cluster": key.cluster, "gateway": key.gateway})
        self._missing = missing


def _expiry(value: bytes) -> int | None:
    try:
        return pb.JoinToken.FromString(value).expires_at_ms
    except ValueError:
        return None
