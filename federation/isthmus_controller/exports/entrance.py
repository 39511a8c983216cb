"""Let others come to the gateway of one stream when it has what its siblings have; withdraw what none of them has."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from isthmus_controller.exports.siblings import UNSAID, Place, digest_of, siblings_of
from isthmus_controller.registry import Registry, Wish, validate
from isthmus_controller.store import ExportKey, GatewayKey, SessionKey
from isthmus_core.names import ClusterId, ServiceName, few
from isthmus_kit.latest import Latest
from isthmus_kit.tasks import Owner
from isthmus_sync import GATEWAY, Update

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.25
"""Seconds between looks at the siblings while something depends on them. Not at each change of the registry: a thousand
clusters may have a gateway that lacks something."""

_PER_SECOND = 10_000
"""Names that are looked up in a second: a gateway that lacks everything must not keep the others waiting."""

SLICE = 500
"""Resources that are looked at and committed at once: others have their turn between the parts of a large update."""

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
        self._weighed = -1  # which of the gateway's words were taken into account
        self._keys: dict[str, ExportKey] = {}
        self._found: tuple[tuple[int, int, bool | None], list[str]] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._warned = False

    @property
    def gateways(self) -> frozenset[str]:
        """The gateways that this stream has introduced itself as, shown to others or not."""
        return frozenset(self._own)

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
        introductions = self._decide()
        if not self._settled and self._watching is None and (self._own or self._lacking()):
            self._watching = self._owner.once(f"siblings in {self._cluster}", self._watch())
        if introductions:
            await self._commit(introductions)
        while self._place.alone and (withdrawn := self._place.release(SLICE)):
            checked = (validate(self._cluster, type_url, name, None) for type_url, name in withdrawn)
            await self._commit([wish for wish in checked if isinstance(wish, Wish)])
            await asyncio.sleep(0)

    async def _watch(self) -> None:
        try:
            while not self._settled:
                await asyncio.sleep(_LOOK_EVERY + len(self._lacking()) / _PER_SECOND)
                await self.step()
        finally:
            self._watching = None

    def _remember(self, key: SessionKey) -> None:
        """Until the gateway has said what it has, what it said in its last life counts, if that was just now."""
        known = self._registry.session(key.cluster, key.gateway)
        if known is not None and known.held and self._lacks.value == UNSAID:
            self._lacks.publish(known.lacks)

    def _decide(self) -> list[Wish]:
        """The introductions that are due, or taken back."""
        self._weighed = self._place.words
        lacking = self._look()
        introductions: list[Wish] = []
        if self._place.alone:
            lacking = []  # `step` withdraws it
        lacks = digest_of(lacking)
        if (self._place.alone or self._place.heard) and lacks != self._lacks.value:
            self._lacks.publish(lacks)
        may = self._place.may_be_introduced(self._own, siblings_of(self._registry, self._cluster), lacks, self._clock())
        for gateway, wish in self._own.items():
            show = may if may is not None or self._registry.raw(wish.key) is None else True
            if show is None or show == self._shown.get(gateway):
                continue
            self._shown[gateway] = show
            introductions.append(wish if show else Wish(wish.key, None))
        self._settled = self._place.alone is not None and not lacking and all(map(self._shown.get, self._own))
        self._warn(lacking)
        return introductions

    def _look(self) -> list[str]:
        """See whether the gateway is alone; what it lacks."""
        lacking = self._lacking()
        siblings = siblings_of(self._registry, self._cluster)
        self._place.look(self._own, siblings, digest_of(lacking), self._clock())
        return lacking

    def _lacking(self) -> list[str]:
        """What the gateway lacks, looked up anew when something may have changed it: that can be all that there is."""
        state = (self._changed.value, self._place.words, self._place.alone)
        if self._found is None or self._found[0] != state:
            self._found = (state, self._place.lacking(self._stands))
        return self._found[1]

    def _stands(self, name: str) -> bool:
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = ExportKey(ServiceName.parse(name), self._cluster)
        return self._registry.raw(key) is not None

    def _warn(self, lacking: list[str]) -> None:
        if self._warned or self._place.alone is not False or not lacking:
            return
        self._warned = True
        log.warning(
            "a gateway lacks exports of its cluster, and they stay",
            extra={
                "cluster": self._cluster,
                "gateway": ", ".join(self._own),
                "names": few(lacking),
                "mend": _MEND,
            },
        )
