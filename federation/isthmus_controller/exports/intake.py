"""Take in what the gateways of a cluster publish: validate each resource, commit, and only then acknowledge."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from isthmus_controller.exports.committer import Committer
from isthmus_controller.exports.entrance import SLICE, Entrance
from isthmus_controller.exports.room import Room
from isthmus_controller.exports.sessions import hold_session
from isthmus_controller.metrics import ControllerMetrics
from isthmus_controller.registry import Registry, Rejected, Wish, validate
from isthmus_controller.store import EndpointsKey, EtcdClient, ExportKey, SessionKey
from isthmus_controller.view import View, Visitor
from isthmus_core.names import ClusterId
from isthmus_kit.latest import Latest
from isthmus_kit.tasks import Owner, own_tasks
from isthmus_sync import CAPACITY, EXPORT, GATEWAY, WILDCARD, SubscriberStream, Subscribing, Update
from isthmus_sync.cache import version_of

log = logging.getLogger(__name__)

_LINES = 20
"""Refusals of one cluster that are logged within a minute."""


class Exports:
    """Serves the Exports streams of one replica."""

    def __init__(
        self, client: EtcdClient, view: View, committer: Committer, metrics: ControllerMetrics, session_ttl: int
    ) -> None:
        self._client = client
        self._view = view
        self._committer = committer
        self._metrics = metrics
        self._session_ttl = session_ttl
        self._said: dict[ClusterId, tuple[float, int]] = {}  # since when, and how many refusals were logged

    @asynccontextmanager
    async def open(self, visitor: Visitor) -> AsyncIterator[Subscribing]:
        """What a new stream of a cluster needs; ends with Refused when the cluster is removed."""
        cluster = visitor.cluster
        async with self._view.membership(visitor), own_tasks() as owner:
            standing = standing_versions(self._view.registry, cluster)
            intake = _Intake(self, cluster, self.entrance(owner, cluster, standing))
            stream = SubscriberStream(
                {GATEWAY: {WILDCARD}, EXPORT: {WILDCARD}, CAPACITY: {WILDCARD}},
                standing,
                ahead={CAPACITY},
            )
            log.info("a gateway publishes its exports", extra={"cluster": cluster})
            with self._metrics.stream("exports", cluster):
                try:
                    yield Subscribing(stream, intake.apply, foretell=intake.foretell)
                finally:
                    intake.close()

    def entrance(self, owner: Owner, cluster: ClusterId, standing: Mapping[str, Collection[str]]) -> Entrance:
        """Where the gateway of a new stream begins, which is told that this stands."""

        def hold(key: SessionKey, lacks: Latest[str]) -> asyncio.Task[None]:
            return owner.start(
                f"session {key.cluster}/{key.gateway}",
                hold_session(self._client, self._view.keys, key, self._view.registry, self._session_ttl, lacks),
            )

        async def commit(wishes: list[Wish]) -> None:
            await self._committer.commit(cluster, wishes)

        return Entrance(cluster, self._view.registry, standing, owner, hold, commit, self._view.changed)

    async def commit(self, cluster: ClusterId, wishes: list[Wish], since: list[Wish]) -> None:
        """Return when all wishes are in etcd."""
        await self._committer.commit(cluster, wishes, since)

    def foretell(self, wishes: list[Wish]) -> list[Wish]:
        """Tell those that are told already anew, ahead of etcd; which these are."""
        told = [wish for wish in wishes if self._view.foresight.concerns(wish.key)]
        self._view.foresight.expect(told)
        return told

    def give_up(self, wishes: list[Wish]) -> None:
        """Take back what was foretold and not written."""
        self._view.foresight.give_up(wishes)

    def rejected(self, cluster: ClusterId, type_url: str, rejected: Mapping[str, str]) -> None:
        """Note what was refused; the gateway is told the reasons and shows them on its ServiceExports."""
        self._metrics.rejected.labels(cluster).inc(len(rejected))
        left = self._lines(cluster)
        for name, reason in list(rejected.items())[:left]:
            log.warning(
                "a resource was refused",
                extra={"cluster": cluster, "type": type_url.rpartition(".")[2], "resource": name, "reason": reason},
            )
        since, said = self._said[cluster]
        self._said[cluster] = (since, said + min(left, len(rejected)))
        if 0 < left <= len(rejected):
            log.warning("refusals of this cluster are not logged for a minute", extra={"cluster": cluster})

    def _lines(self, cluster: ClusterId) -> int:
        """How many more refusals of a cluster may be logged: one that errs for ever must not fill the disk."""
        now = asyncio.get_running_loop().time()
        since, said = self._said.get(cluster, (now, 0))
        if now - since >= 60:
            since, said = now, 0
        self._said[cluster] = (since, said)
        return _LINES - said

    def room(self, cluster: ClusterId, gateways: Collection[str]) -> Room:
        """What one update of a stream that is these gateways may bring into being."""
        return Room(self._view.registry, cluster, gateways)


class _Intake:
    """One stream."""

    def __init__(self, exports: Exports, cluster: ClusterId, entrance: Entrance) -> None:
        self._exports = exports
        self._cluster = cluster
        self._entrance = entrance
        self._foretold: dict[str, Wish] = {}  # capacities by name
        self._waiting: set[str] = set()  # nonces of updates that were foretold

    def foretell(self, update: Update) -> None:
        """What waits for its turn: health is told now, for a write that waits for etcd must not hold it back."""
        if update.type_url != CAPACITY or len(update.changed) > SLICE:
            return
        checked = [validate(self._cluster, CAPACITY, name, changed.body) for name, changed in update.changed.items()]
        told = self._exports.foretell([wish for wish in checked if isinstance(wish, Wish)])
        self._foretold.update({str(wish.key.service): wish for wish in told if isinstance(wish.key, EndpointsKey)})
        if not update.ahead:
            self._waiting.add(update.nonce)

    def close(self) -> None:
        """The stream ends: what never had its turn is taken back."""
        self._exports.give_up(list(self._foretold.values()))

    async def apply(self, update: Update) -> Mapping[str, str]:
        """Commit one response; what of it is refused, and why."""
        rejected: dict[str, str] = {}
        room = self._exports.room(self._cluster, self._entrance.gateways)
        kept = self._entrance.hear(update)
        names = [*update.changed, *sorted(update.removed - kept)]
        for start in range(0, len(names), SLICE):
            part = names[start : start + SLICE]
            wishes = self._wishes(update, part, room, rejected)
            await self._entrance.greet(wishes)
            await self._exports.commit(self._cluster, wishes, self._foretold_since(update, part))
            await asyncio.sleep(0)
        await self._entrance.step(update.type_url)
        self._waiting.discard(update.nonce)
        if rejected:
            self._exports.rejected(self._cluster, update.type_url, rejected)
        return rejected

    def _wishes(self, update: Update, names: Sequence[str], room: Room, rejected: dict[str, str]) -> list[Wish]:
        """What of a part of an update may be written; the rest is put into `rejected` with the reason."""
        wishes: list[Wish] = []
        for name in names:
            changed = update.changed.get(name)
            match validate(self._cluster, update.type_url, name, changed.body if changed is not None else None):
                case Wish() as wish if reason := room.refusal(wish):
                    rejected[name] = reason
                case Wish() as wish:
                    wishes.append(wish)
                case Rejected(_, reason) if changed is not None:
                    rejected[name] = reason
                case Rejected():
                    pass  # a name that cannot exist is not there, which is all that its withdrawal asks for
        return wishes

    def _foretold_since(self, update: Update, names: Sequence[str]) -> list[Wish]:
        """What of these was foretold after the update came; all else that was foretold of them has its turn now."""
        if update.type_url != CAPACITY:
            return []
        waited = update.nonce in self._waiting
        since: list[Wish] = []
        past: list[Wish] = []
        for name in names:
            wish = self._foretold.get(name)
            if wish is None:
                continue
            changed = update.changed.get(name)
            if waited and changed is not None and changed.body != wish.body:
                since.append(wish)
                continue
            del self._foretold[name]
            if changed is None or changed.body != wish.body:
                past.append(wish)
        self._exports.give_up(past)
        return since


def standing_versions(registry: Registry, cluster: ClusterId) -> dict[str, dict[str, str]]:
    """What the registry holds of a cluster, as versions: its gateway sends only what differs, and names what it lacks.

    Gateways are left out: each publishes only itself, and must not be asked to take back its siblings.
    """
    known: dict[str, dict[str, str]] = {EXPORT: {}, CAPACITY: {}}
    for service in registry.offers(cluster):
        for type_url, key in ((EXPORT, ExportKey(service, cluster)), (CAPACITY, EndpointsKey(service, cluster))):
            body = registry.raw(key)
            if body is not None:
                known[type_url][str(service)] = version_of(body)
        if str(service) in known[EXPORT]:
            # Whoever lacks an export says so with its first capacities: `siblings.Place.hear`.
            known[CAPACITY].setdefault(str(service), "")
    return known
