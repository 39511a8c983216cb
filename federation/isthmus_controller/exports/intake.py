"""Take in what the gateways of a cluster publish: validate each resource, commit, and only then acknowledge."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from isthmus_controller.exports.committer import Committer
from isthmus_controller.exports.sessions import hold_session
from isthmus_controller.metrics import ControllerMetrics
from isthmus_controller.registry import Registry, Rejected, Wish, validate
from isthmus_controller.store import EndpointsKey, EtcdClient, ExportKey, GatewayKey, SessionKey
from isthmus_controller.view import View
from isthmus_core.names import ClusterId, ServiceName
from isthmus_kit.tasks import Owner, own_tasks
from isthmus_sync import CAPACITY, EXPORT, GATEWAY, WILDCARD, ResourceCache, SubscriberStream, Subscribing, Update

log = logging.getLogger(__name__)


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

    @asynccontextmanager
    async def open(self, cluster: ClusterId) -> AsyncIterator[Subscribing]:
        """What a new stream of `cluster` needs; ends with Refused when the cluster is removed."""
        async with self._view.membership(cluster), own_tasks() as owner:
            intake = _Intake(self, owner, cluster)
            stream = SubscriberStream(
                {GATEWAY: {WILDCARD}, EXPORT: {WILDCARD}, CAPACITY: {WILDCARD}},
                standing_versions(self._view.registry, cluster),
            )
            log.info("a gateway publishes its exports", extra={"cluster": cluster})
            with self._metrics.stream("exports", cluster):
                yield Subscribing(stream, intake.apply)

    def hold(self, owner: Owner, key: SessionKey) -> asyncio.Task[None]:
        """Keep the session of a gateway while the stream lives."""
        return owner.start(
            f"session {key.cluster}/{key.gateway}",
            hold_session(self._client, self._view.keys, key, self._view.registry, self._session_ttl),
        )

    async def commit(self, cluster: ClusterId, wishes: list[Wish]) -> None:
        """Return when all wishes are in etcd."""
        await self._committer.commit(cluster, wishes)

    def rejected(self, cluster: ClusterId, type_url: str, rejected: Mapping[str, str]) -> None:
        """Note what was refused; the gateway is told the reasons and shows them on its ServiceExports."""
        self._metrics.rejected.labels(cluster).inc(len(rejected))
        for name, reason in rejected.items():
            log.warning(
                "a resource was refused",
                extra={"cluster": cluster, "type": type_url.rpartition(".")[2], "resource": name, "reason": reason},
            )


class _Intake:
    """One stream."""

    def __init__(self, exports: Exports, owner: Owner, cluster: ClusterId) -> None:
        self._exports = exports
        self._owner = owner
        self._cluster = cluster
        self._sessions: dict[str, asyncio.Task[None]] = {}

    async def apply(self, update: Update) -> Mapping[str, str]:
        """Commit one response; what of it is refused, and why."""
        resources = [(name, changed.body) for name, changed in update.changed.items()]
        wishes: list[Wish] = []
        rejected: dict[str, str] = {}
        for name, body in resources:
            match validate(self._cluster, update.type_url, name, body):
                case Wish() as wish:
                    wishes.append(wish)
                case Rejected(_, reason):
                    rejected[name] = reason
        for name in sorted(update.removed):
            # A name that cannot exist is not there, which is all that its withdrawal asks for.
            gone = validate(self._cluster, update.type_url, name, None)
            wishes += [gone] if isinstance(gone, Wish) else []
        await self._follow_sessions(wishes)
        await self._exports.commit(self._cluster, wishes)
        if rejected:
            self._exports.rejected(self._cluster, update.type_url, rejected)
        return rejected

    async def _follow_sessions(self, wishes: list[Wish]) -> None:
        """A gateway that introduces itself has a session; one that takes its leave ends it in the same transaction."""
        for wish in list(wishes):
            if not isinstance(wish.key, GatewayKey):
                continue
            key = SessionKey(wish.key.cluster, wish.key.gateway)
            if wish.body is not None:
                if key.gateway not in self._sessions:
                    self._sessions[key.gateway] = self._exports.hold(self._owner, key)
                continue
            session = self._sessions.pop(key.gateway, None)
            if session is not None:
                session.cancel()
                # Its last write must not come after the deletion.
                await asyncio.wait({session})
            wishes.append(Wish(key, None))


def standing_versions(registry: Registry, cluster: ClusterId) -> dict[str, dict[str, str]]:
    """What the registry holds of a cluster, as versions: its gateway sends only what differs, and names what is gone.

    Gateways are left out: each publishes only itself, and must not be asked to take back its siblings.
    """
    known: dict[str, dict[str, str]] = {EXPORT: {}, CAPACITY: {}}
    for service in registry.offers(cluster):
        for type_url, key in ((EXPORT, ExportKey(service, cluster)), (CAPACITY, EndpointsKey(service, cluster))):
            body = registry.raw(key)
            if body is not None:
                known[type_url][str(service)] = _version(service, body)
    return known


def _version(service: ServiceName, body: bytes) -> str:
    """The version that a publisher gives to these bytes."""
    cache = ResourceCache(EXPORT)
    cache.put(str(service), body)
    resource = cache.get(str(service))
    return resource.version if resource else ""
