"""Commit what clusters wish, many in one transaction: the first at once, the next ones while that is on its way."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from isthmus_controller.registry import Wish
from isthmus_controller.registry.records import RecordKey
from isthmus_controller.store import (
    ClusterKey,
    Delete,
    ElectionKey,
    EtcdClient,
    Fence,
    Get,
    Keys,
    Put,
    present,
    stood,
)
from isthmus_controller.store.client import split
from isthmus_controller.store.fence import PATIENCE
from isthmus_controller.store.values import Write
from isthmus_core.errors import InvalidInput, Refused, Unavailable
from isthmus_core.names import ClusterId
from isthmus_kit.backoff import Backoff
from isthmus_kit.tasks import own_tasks

log = logging.getLogger(__name__)

_ROUND = 1_000
"""Operations of one round: ten transactions side by side. Whoever comes later waits for this round only."""

_GATHER = 0.002
"""Seconds that changes wait for company which gateways were told ahead: nobody waits for them but their sender."""


class CommitStats:
    """What the metrics want to know; the committer calls it."""

    def committed(self, operations: int, seconds: float, revision: int, started: float) -> None:
        """One transaction is in etcd."""

    def unchanged(self, operations: int) -> None:
        """Wishes that stood in etcd already: nothing was written."""


class Ahead(Protocol):
    """Who wants to know of writes before they are done; the committer calls it."""

    def expect(self, wishes: Sequence[Wish]) -> bool:
        """These are being written; whether whom it concerns knows all of them already."""

    def written(self, key: RecordKey, body: bytes | None, revision: int) -> None:
        """This is in etcd."""

    def give_up(self, wishes: Iterable[Wish]) -> None:
        """What of these is not written now never will be."""


class _Nobody:
    def expect(self, wishes: Sequence[Wish]) -> bool:
        return False

    def written(self, key: RecordKey, body: bytes | None, revision: int) -> None: ...

    def give_up(self, wishes: Iterable[Wish]) -> None: ...


class _Ticket(msgspec.Struct, eq=False):
    """The wishes of one response of one cluster, and who waits for them."""

    cluster: ClusterId
    wishes: Sequence[Wish]
    done: asyncio.Future[None]
    since: float
    told: bool
    """Gateways know all of it already."""


class _Planned(msgspec.Struct, frozen=True):
    operation: Write
    cluster: ClusterId


class Committer:
    """Writes for all streams of a replica. The newest wish for a key wins; equal values are not written again."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        standing: Callable[[RecordKey], bytes | None],
        seen: Callable[[], int],
        stats: CommitStats | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        """`standing` gives the value of a key in our view of etcd, `seen` the revision of that view."""
        self._client = client
        self._keys = keys
        self._standing = standing
        self._seen = seen
        self._stats = stats or CommitStats()
        self._told_ahead: Ahead = ahead or _Nobody()
        self._fence = Fence(client, keys.under(ElectionKey, "writers"))
        self._waiting: list[_Ticket] = []
        self._wake = asyncio.Event()
        # What we wrote and have not yet read back: the view is a few milliseconds behind our own writes.
        self._ahead: dict[RecordKey, tuple[int, bytes | None]] = {}

    async def commit(self, cluster: ClusterId, wishes: Sequence[Wish], since: Sequence[Wish] = ()) -> None:
        """Return when every wish stands in etcd; waits as long as etcd is away. `since` was foretold after these.

        Cancelling takes back what is not on its way yet. Raises Refused when the cluster is no member any more.
        """
        if not wishes:
            return
        loop = asyncio.get_running_loop()
        told = self._told_ahead.expect([wish for wish in wishes if self._value(wish.key) != wish.body])
        self._told_ahead.expect(since)
        ticket = _Ticket(cluster, wishes, loop.create_future(), loop.time(), told)
        self._waiting.append(ticket)
        self._wake.set()
        try:
            await ticket.done
        finally:
            if ticket in self._waiting:  # cancelled before its turn
                self._told_ahead.give_up(wishes)

    async def run(self) -> None:
        """Commit round after round until cancelled."""
        async with own_tasks() as owner:
            owner.start("committer's fence", self._fence.run())
            await self._run()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            if all(ticket.told for ticket in self._waiting):
                await asyncio.sleep(_GATHER)
            tickets = self._next_round()
            try:
                await self._commit_round(tickets)
            finally:
                for ticket in tickets:
                    self._told_ahead.give_up(ticket.wishes)
                    if not ticket.done.done():
                        ticket.done.cancel()

    def _next_round(self) -> list[_Ticket]:
        taken: list[_Ticket] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0].wishes) <= _ROUND):
            ticket = self._waiting.pop(0)
            if not ticket.done.done():  # the stream behind a cancelled one is gone: its gateway says it again
                taken.append(ticket)
                size += len(ticket.wishes)
        if not self._waiting:
            self._wake.clear()
        return taken

    async def _commit_round(self, tickets: Sequence[_Ticket]) -> None:
        newest = {wish.key: (wish, ticket.cluster) for ticket in tickets for wish in ticket.wishes}
        plan = [
            _Planned(self._operation(wish), cluster)
            for wish, cluster in newest.values()
            if self._value(wish.key) != wish.body
        ]
        self._stats.unchanged(len(newest) - len(plan))
        started = min((ticket.since for ticket in tickets), default=0.0)
        lost: set[ClusterId] = set()
        trouble: list[Unavailable] = []
        async with own_tasks() as owner:
            by_operation = {planned.operation.key: planned.cluster for planned in plan}
            chunks = [
                owner.once("etcd transaction", self._write(chunk, by_operation, started, lost, trouble))
                for chunk in split(planned.operation for planned in plan)
            ]
            for chunk in chunks:
                await chunk
        for ticket in tickets:
            if ticket.done.done():
                continue
            if ticket.cluster in lost:
                ticket.done.set_exception(Refused(f"cluster {ticket.cluster} is not registered in this federation"))
            elif trouble:
                ticket.done.set_exception(trouble[0])
            else:
                ticket.done.set_result(None)

    async def _write(
        self,
        chunk: Sequence[Write],
        cluster_of: dict[str, ClusterId],
        started: float,
        lost: set[ClusterId],
        trouble: list[Unavailable],
    ) -> None:
        """One transaction, repeated until it is in etcd; without the clusters that were removed meanwhile."""
        backoff, attempt = Backoff(), 0
        while chunk := [operation for operation in chunk if cluster_of[operation.key] not in lost]:
            clusters = sorted({cluster_of[operation.key] for operation in chunk})
            guards = [self._keys.path(ClusterKey(cluster)) for cluster in clusters]
            begun = asyncio.get_running_loop().time()
            fence = None
            try:
                fence = await self._fence.guard()
                result = await self._client.txn(
                    [*map(present, guards), fence],
                    chunk,
                    [*map(Get, guards), Get(fence.key)],
                    # Not for ever so short: a slow etcd must be able to answer.
                    timeout=PATIENCE if attempt == 0 else None,
                )
            except (InvalidInput, Refused) as error:
                trouble.append(Unavailable(f"the registry does not take the write: {error.sentence}", error.mend))
                return
            except Unavailable as error:
                # All operations are puts and deletes of whole values: repeating one that did happen changes nothing,
                # and one that did not happen must not do so later, when newer values stand in its place.
                if fence is not None:
                    self._fence.move(fence)
                if attempt == 0:
                    log.warning("nothing can be committed, trying again", extra={"why": str(error)})
                await asyncio.sleep(backoff.delay(attempt, random.random))
                attempt += 1
                continue
            if result.succeeded:
                self._remember(chunk, result.revision)
                now = asyncio.get_running_loop().time()
                self._stats.committed(len(chunk), now - begun, result.revision, started)
                return
            if not stood(fence, result):
                self._fence.move(fence)
            lost.update(cluster for cluster, found in zip(clusters, result.reads, strict=False) if not found)

    def _operation(self, wish: Wish) -> Write:
        path = self._keys.path(wish.key)
        return Delete(path) if wish.body is None else Put(path, wish.body)

    def _value(self, key: RecordKey) -> bytes | None:
        ahead = self._ahead.get(key)
        if ahead is None:
            return self._standing(key)
        revision, body = ahead
        if self._seen() >= revision:
            del self._ahead[key]
            return self._standing(key)
        return body

    def _remember(self, chunk: Sequence[Write], revision: int) -> None:
        seen = self._seen()
        self._ahead = {key: ahead for key, ahead in self._ahead.items() if ahead[0] > seen}
        for operation in chunk:
            key = self._keys.parse(operation.key)
            if isinstance(key, RecordKey):
                body = operation.value if isinstance(operation, Put) else None
                self._told_ahead.written(key, body, revision)
                self._ahead[key] = (revision, body)
