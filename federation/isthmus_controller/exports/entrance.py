"""Let others come to the gateway of one stream when it has what its siblings have; withdraw what none of them has."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress

from isthmus_controller.exports.siblings import UNSAID, Place, digest_of, siblings_of
from isthmus_controller.registry import Registry, Wish, validate
from isthmus_controller.store import ExportKey, GatewayKey, SessionKey
from isthmus_core.names import ClusterId, ServiceName
from isthmus_kit.latest import Latest
from isthmus_kit.tasks import Owner
from isthmus_sync import GATEWAY, Update

log = logging.getLogger(__name__)

_LOOK_EVERY, _BREATH = 0.5, 0.05
"""Seconds between looks at the siblings while something depends on them, at most and (when etcd changes) at least."""

_PER_SECOND = 10_000
"""Names that are looked up in a second: a gateway that lacks everything must not keep the others waiting."""

_NAMED = 3

_MEND = "Give all gateways of a cluster the same services folder."


class Entrance:
    """Where the gateway of one stream stands. What it decides by is in etcd, and what the gateway has said itself."""

    def __init__(
        self,
        cluster: ClusterId,
        registry: Registry,
        standing: Mapping[str, Collection[str]],
        owner: Owner,
        hold: Callable[[SessionKey, Latest[str]], asyncio.Task[None]],
        commit: Callable[[list[Wish]], Awaitable[None]],
        changed: Latest[int],
    ) -> None:
        """`changed` is published after each change of the registry."""
        self._cluster = cluster
        self._registry = registry
        self._owner = owner
        self._hold = hold
        self._commit = commit
        self._changed = changed
        self._clock = asyncio.get_running_loop().time
        self._place = Place(standing, self._clock())
        self._own: dict[str, Wish] = {}
        self._shown: dict[str, bool] = {}  # what was decided last: only a change of mind is written
        self._sessions: dict[str, asyncio.Task[None]] = {}
        self._lacks: Latest[str] = Latest(UNSAID)
        self._settled = False
        self._seen = self._weighed = -1  # what was taken into account: of the registry, and of the gateway's words
        self._watching: asyncio.Task[None] | None = None
        self._warned = False

    def hear(self, update: Update) -> frozenset[str]:
        """Take in what the gateway says; the names whose removal is no withdrawal, or not yet."""
        if self._place.alone is None:
            self._look()
        return self._place.hear(update)

    async def greet(self, wishes: list[Wish]) -> None:
        """A gateway that introduces itself has a session; one that takes its leave ends it in the same transaction.

        Introductions are taken out of `wishes`: `step` makes them when it is time.
        """
        for wish in list(wishes):
            if not isinstance(wish.key, GatewayKey):
                continue
            key = SessionKey(wish.key.cluster, wish.key.gateway)
            self._shown.pop(key.gateway, None)
            if wish.body is not None:
                wishes.remove(wish)
                self._own[key.gateway] = wish
                if key.gateway not in self._sessions:
                    self._remember(key)
                    self._sessions[key.gateway] = self._hold(key, self._lacks)
                continue
            self._own.pop(key.gateway, None)
            session = self._sessions.pop(key.gateway, None)
            if session is not None:
                session.cancel()
                # Its last write must not come after the deletion.
                await asyncio.wait({session})
            wishes.append(Wish(key, None))

    async def step(self, type_url: str = GATEWAY) -> None:
        """Do what follows from what was heard of this type, and from what is known of the siblings now."""
        if type_url != GATEWAY and self._weighed == self._place.words:
            return
        wishes = self._decide()
        if not self._settled and self._watching is None and (self._own or self._lacking()):
            self._watching = self._owner.once(f"siblings in {self._cluster}", self._watch())
        if wishes:
            await self._commit(wishes)

    async def _watch(self) -> None:
        try:
            while not self._settled:
                await self._next_change()
                await self.step()
        finally:
            self._watching = None

    async def _next_change(self) -> None:
        await asyncio.sleep(_BREATH + len(self._lacking()) / _PER_SECOND)
        with suppress(TimeoutError):
            await self._changed.wait(lambda revision: revision != self._seen, _LOOK_EVERY)

    def _remember(self, key: SessionKey) -> None:
        """Until the gateway has said what it has, what it said in its last life counts, if that was just now."""
        known = self._registry.session(key.cluster, key.gateway)
        if known is not None and known.held and self._lacks.value == UNSAID:
            self._lacks.publish(known.lacks)

    def _decide(self) -> list[Wish]:
        self._seen, self._weighed = self._changed.value, self._place.words
        lacking = self._look()
        wishes: list[Wish] = []
        if self._place.alone:
            withdrawn = (validate(self._cluster, type_url, name, None) for type_url, name in self._place.release())
            wishes += [wish for wish in withdrawn if isinstance(wish, Wish)]
            lacking = []
        lacks = digest_of(lacking)
        if (self._place.alone or self._place.heard) and lacks != self._lacks.value:
            self._lacks.publish(lacks)
        may = self._place.may_be_introduced(self._own, siblings_of(self._registry, self._cluster), lacks, self._clock())
        for gateway, wish in self._own.items():
            show = may if may is not None or self._registry.raw(wish.key) is None else True
            if show is None or show == self._shown.get(gateway):
                continue
            self._shown[gateway] = show
            wishes.append(wish if show else Wish(wish.key, None))
        self._settled = self._place.alone is not None and not lacking and all(map(self._shown.get, self._own))
        self._warn(lacking)
        return wishes

    def _look(self) -> list[str]:
        """See whether the gateway is alone; what it lacks."""
        lacking = self._lacking()
        siblings = siblings_of(self._registry, self._cluster)
        self._place.look(self._own, siblings, digest_of(lacking), self._clock())
        return lacking

    def _lacking(self) -> list[str]:
        return self._place.lacking(self._stands)

    def _stands(self, name: str) -> bool:
        return self._registry.raw(ExportKey(ServiceName.parse(name), self._cluster)) is not None

    def _warn(self, lacking: list[str]) -> None:
        if self._warned or self._place.alone is not False or not lacking:
            return
        self._warned = True
        log.warning(
            "a gateway lacks exports of its cluster, which other gateways offer: they stay",
            extra={
                "cluster": self._cluster,
                "gateway": ", ".join(self._own),
                "missing": len(lacking),
                "first": ", ".join(lacking[:_NAMED]),
                "mend": _MEND,
            },
        )
