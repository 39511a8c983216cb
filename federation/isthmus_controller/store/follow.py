"""Follow a prefix for ever: read once, watch from there, and repair whatever was missed."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

import msgspec

from isthmus_controller.store.client import EtcdClient
from isthmus_controller.store.errors import Compacted, Untrusted
from isthmus_controller.store.replica import Batch, Held, Origin, apply, differences
from isthmus_controller.store.values import Progress
from isthmus_controller.store.watch import WatchStream
from isthmus_core.errors import InvalidInput, IsthmusError, Refused
from isthmus_kit.backoff import Backoff
from isthmus_kit.latest import Latest

log = logging.getLogger(__name__)


class FollowState(msgspec.Struct, frozen=True):
    """How a follower stands with etcd. The last state is kept while it is not connected."""

    synced: bool = False
    """A whole read was delivered once; from then on what was delivered is never taken back for a lost connection."""
    connected: bool = False
    why: str = "not read yet"
    """Why it is not connected."""
    revision: int = 0
    """Everything up to this revision was delivered."""
    reads: int = 0
    repairs: int = 0
    """Differences that an audit found, which no watch had told."""
    rollbacks: int = 0
    """How often etcd came back with an older revision than was known: restored from a backup."""


class Follower:
    """Delivers every change below `prefix` to `deliver`, in order, in batches of one etcd revision.

    The first batch holds everything there is (origin READ). After a compaction or a rollback a new read is compared
    with what was delivered, and only the differences are delivered, deletions included. Every `audit_every` seconds
    the whole prefix is read again at a revision that was delivered, and differences (there should be none) are
    delivered with origin REPAIR. `deliver` is called in the follower's task and must not block; its errors end `run`.
    """

    def __init__(
        self,
        client: EtcdClient,
        prefix: str,
        deliver: Callable[[Batch], None],
        *,
        audit_every: float = 60.0,
        progress_every: float = 2.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._deliver = deliver
        self._audit_every = audit_every
        self._progress_every = progress_every
        # Progress is asked for often, so etcd is silent for this long only when it is frozen or gone.
        self._silence = progress_every + 3.0
        self._backoff = backoff or Backoff()
        self._held: dict[str, Held] = {}
        self._stream: WatchStream | None = None
        self._read_again = True
        self._audit_at = 0.0
        self.state = Latest(FollowState())

    @property
    def held(self) -> Mapping[str, Held]:
        """What was delivered, as it stands now."""
        return self._held

    async def reached(self, revision: int, timeout: float = 5.0) -> None:
        """Wait until everything up to `revision` was delivered: read your own writes. Raises TimeoutError."""
        await self.state.wait(lambda state: state.revision >= revision, timeout)

    async def run(self) -> None:
        """Follow until cancelled.

        Only before the first read it raises InvalidInput, Refused or Untrusted: a wrong password or certificate.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask_for_progress(), name=f"etcd progress {self._prefix}")
                await self._follow()
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise

    async def _follow(self) -> None:
        attempt = 0
        while True:
            try:
                if self._read_again:
                    await self._read()
                await self._watch()
            except Compacted as error:
                log.info(
                    "etcd compacted what was not read yet, reading again",
                    extra={"prefix": self._prefix, "compact_revision": error.compact_revision},
                )
                self._read_again = True
                attempt = 0 if self.state.value.connected else attempt + 1
                if attempt == 0:
                    continue
            except IsthmusError as error:
                if isinstance(error, InvalidInput | Refused | Untrusted) and not self.state.value.synced:
                    raise
                attempt = self._disconnected(error, attempt)
            await asyncio.sleep(self._backoff.delay(attempt, random.random))

    def _disconnected(self, error: IsthmusError, attempt: int) -> int:
        was = self.state.value
        if was.connected or was.why != str(error):
            log.warning(
                "etcd is not followed, the last state is kept", extra={"prefix": self._prefix, "why": str(error)}
            )
        self._set(connected=False, why=str(error))
        return 0 if was.connected else attempt + 1

    async def _read(self) -> None:
        snapshot = await self._client.range(self._prefix)
        state = self.state.value
        if snapshot.revision < state.revision:
            log.error(
                "etcd went back in time, it was restored from a backup",
                extra={"prefix": self._prefix, "revision": snapshot.revision, "known": state.revision},
            )
            self._set(rollbacks=state.rollbacks + 1)
        self._bring(Batch(snapshot.revision, differences(self._held, snapshot.items, snapshot.revision), Origin.READ))
        self._set(synced=True, reads=state.reads + 1, revision=snapshot.revision)
        self._read_again = False
        self._audit_at = asyncio.get_running_loop().time() + self._audit_every

    async def _watch(self) -> None:
        # From the revision that was delivered, not from the one after it: etcd gives no word of progress to a watch
        # that begins in the future, and an idle etcd could not be told from a dead one.
        stream = await self._client.watch(self._prefix, self.state.value.revision)
        self._stream = stream
        try:
            if stream.revision < self.state.value.revision:
                # A watch from a future revision would wait in silence until etcd gets there.
                self._read_again = True
                return
            self._set(connected=True, why="")
            while True:
                got = await stream.read(self._silence)
                if isinstance(got, Progress):
                    self._set(revision=max(got.revision, self.state.value.revision))
                else:
                    for revision in got:
                        if revision.revision <= self.state.value.revision:
                            continue
                        self._bring(Batch(revision.revision, revision.changes, Origin.WATCH))
                        self._set(revision=revision.revision)
                if asyncio.get_running_loop().time() >= self._audit_at:
                    await self._audit()
        finally:
            self._stream = None
            stream.close()

    async def _audit(self) -> None:
        """Compare with etcd at exactly the revision that was delivered, so that nothing under way looks like a loss."""
        revision = self.state.value.revision
        snapshot = await self._client.range(self._prefix, revision=revision)
        missed = differences(self._held, snapshot.items, revision)
        if missed:
            log.error(
                "an audit found changes that no watch had told", extra={"prefix": self._prefix, "changes": len(missed)}
            )
            self._bring(Batch(revision, missed, Origin.REPAIR))
            self._set(repairs=self.state.value.repairs + len(missed))
        self._audit_at = asyncio.get_running_loop().time() + self._audit_every

    async def _ask_for_progress(self) -> None:
        while True:
            await asyncio.sleep(self._progress_every)
            if self._stream is not None:
                await self._stream.request_progress()

    def _bring(self, batch: Batch) -> None:
        if batch.changes:
            apply(self._held, batch.changes)
            self._deliver(batch)

    def _set(self, **changes: object) -> None:
        self.state.publish(msgspec.structs.replace(self.state.value, **changes))
