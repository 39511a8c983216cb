"""This replica's view of the federation: follow etcd, keep the registry, and tell the gateways what changed."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import msgspec

from isthmus_controller.feeds import Feeds
from isthmus_controller.foresight import Foresight
from isthmus_controller.openings import Openings
from isthmus_controller.registry import Registry
from isthmus_controller.store import Batch, ElectionKey, EtcdClient, Follower, Held, Keys, TokenKey
from isthmus_core.errors import Refused, Unavailable
from isthmus_core.names import ClusterId
from isthmus_kit.latest import Latest
from isthmus_kit.readiness import Readiness
from isthmus_kit.tasks import own_tasks
from isthmus_sync.streams import first_cause

_SYNC_PATIENCE = 2.5
"""Seconds that a stream waits for the first read: a little less than a client waits before it asks another replica."""

_ECHO_EVERY = 1.0
"""Seconds until a cluster hears at the latest what all others were told of it."""


class Visitor(msgspec.Struct, frozen=True):
    """Who has opened a stream: a gateway of this cluster, with a certificate that is good until then."""

    cluster: ClusterId
    until: datetime
    when_gone: Callable[[Callable[[], None]], object]
    """Calls back when nothing of its stream stands in memory any more (`isthmus_sync.Caller`)."""


class View:
    """The newest state that this replica has read; `changed` carries its revision and wakes whoever waits for news."""

    def __init__(
        self, client: EtcdClient, keys: Keys, readiness: Readiness, observe: Callable[[Batch], None] = lambda _: None
    ) -> None:
        self.keys = keys
        self.registry = Registry(keys)
        self.feeds = Feeds()
        self.foresight = Foresight(self.registry, self.feeds)
        self.changed: Latest[int] = Latest(0)
        self._readiness = readiness
        self._observe = observe
        self._follower = Follower(client, keys.root, self._deliver)
        self._synced = asyncio.Event()
        self._removals: dict[ClusterId, asyncio.Event] = {}
        self._openings = Openings(time.monotonic)
        # Tokens and candidates: few beside the registry's own keys, and looked through every second.
        self._beside: dict[str, Held] = {}
        self._beside_prefixes = (keys.prefix(TokenKey), keys.prefix(ElectionKey))

    @property
    def revision(self) -> int:
        """Everything that etcd held at this revision is in the registry."""
        return self._follower.state.value.revision

    @property
    def synced(self) -> bool:
        """Whether etcd was read at least once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait for the first full read."""
        await self._synced.wait()

    def held(self, prefix: str) -> dict[str, Held]:
        """The keys below a prefix that the registry itself does not read: tokens, candidates."""
        return {key: held for key, held in self._beside.items() if key.startswith(prefix)}

    async def reached(self, revision: int) -> None:
        """Wait until our own write is in the view, at most two seconds: whoever asked sees it in the next answer."""
        with suppress(TimeoutError):
            await self._follower.reached(revision, timeout=2.0)

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        async with own_tasks() as owner:
            owner.start("etcd follower", self._follower.run())
            owner.start("echoes", self._echo())
            async for state in self._follower.state.follow():
                self._readiness.set("registry", state.synced, "" if state.synced else f"etcd was not read: {state.why}")
                # Losing etcd keeps the last state and keeps us serving it: it is named, and nothing is withdrawn.
                self._readiness.warn("etcd", "" if state.connected or not state.synced else state.why)
                self.foresight.reached(state.revision)
                if state.synced and not self._synced.is_set():
                    self.feeds.mark_synced()
                    self._synced.set()
                    self.changed.publish(state.revision)

    async def _echo(self) -> None:
        while True:
            await asyncio.sleep(_ECHO_EVERY)
            self.feeds.catch_up()

    @asynccontextmanager
    async def membership(self, visitor: Visitor) -> AsyncIterator[None]:
        """A block that ends with Refused when the cluster is removed, and with Unavailable when the visitor's
        certificate expires; refuses to begin when the cluster is no member."""
        cluster = visitor.cluster
        try:
            async with asyncio.timeout(_SYNC_PATIENCE):
                await self._synced.wait()
        except TimeoutError:
            raise Unavailable("this controller has not read the registry yet") from None
        self._check_member(cluster)
        self._openings.opened(cluster)
        visitor.when_gone(partial(self._openings.closed, cluster))
        removal = self._removals.setdefault(cluster, asyncio.Event())
        try:
            async with own_tasks() as owner:
                owner.once(f"membership of {cluster}", self._until_removed(cluster, removal))
                owner.once(f"certificate of {cluster}", _until_expired(visitor.until))
                yield
        except BaseExceptionGroup as group:
            raise first_cause(group) from group

    async def _until_removed(self, cluster: ClusterId, removal: asyncio.Event) -> None:
        await removal.wait()
        raise _no_member(cluster)

    def _check_member(self, cluster: ClusterId) -> None:
        if cluster in self.registry.clusters:
            return
        if self.registry.is_registered(cluster):
            raise Unavailable(f"the registry's record of cluster {cluster} cannot be read by this controller")
        raise _no_member(cluster)

    def _deliver(self, batch: Batch) -> None:
        before = self.registry.clusters.keys() | set()
        published = self.registry.apply(batch.changes)
        self._keep_beside(batch)
        self.feeds.tell(self.foresight.newest(published, batch.revision))
        for cluster in before - self.registry.clusters.keys():
            if not self.registry.is_registered(cluster):
                self.feeds.forget(cluster)
                self._removals.pop(cluster, asyncio.Event()).set()
        quarantined = self.registry.quarantined
        self._readiness.warn(
            "quarantine", "; ".join(f"{key}: {reason}" for key, reason in sorted(quarantined.items())[:5])
        )
        self._observe(batch)
        self.changed.publish(batch.revision)

    def _keep_beside(self, batch: Batch) -> None:
        for change in batch.changes:
            if not change.key.startswith(self._beside_prefixes):
                continue
            if change.value is None:
                self._beside.pop(change.key, None)
            else:
                self._beside[change.key] = Held(change.value, change.mod_revision, change.create_revision)


async def _until_expired(until: datetime) -> None:
    """TLS looks at a certificate when a connection begins, and never again: a stolen one would be good for ever."""
    await asyncio.sleep((until - datetime.now(UTC)).total_seconds())
    raise Unavailable("the certificate that opened this stream has expired", "Open it again with the newest one.")


def _no_member(cluster: ClusterId) -> Refused:
    return Refused(
        f"cluster {cluster} is not registered in this federation any more",  # its CA is of our root: it was once
        "Register it again with 'isthmus cluster register' and join with the new token.",
    )
