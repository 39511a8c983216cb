"""Keep Envoy's resources in groups that change together: a service, an export, a cluster; and what Envoy refused."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from isthmus_gateway.resources import TYPES, Encoded, Resources
from isthmus_gateway.resources.names import ENDPOINT, LISTENER
from isthmus_sync import ENVOY, Acked, Nacked, Publication, ResourceCache


class Refusal(msgspec.Struct, frozen=True):
    """A resource that Envoy did not take; everything else goes on."""

    kind: str
    name: str
    reason: str


class EnvoyFeed:
    """What Envoy is told. `on_refusals` is called when the list of refused resources changes."""

    def __init__(self, on_refusals: Callable[[tuple[Refusal, ...]], None]) -> None:
        self.publication: Publication = Publication([ResourceCache(type_url) for type_url in TYPES], order=ENVOY)
        self._groups: dict[str, dict[str, frozenset[str]]] = {}
        self._refused: dict[tuple[str, str], str] = {}
        self._listening: dict[str, str] = {}
        self._retries = 0
        self._on_refusals = on_refusals

    def put(self, group: str, resources: Resources) -> None:
        """Make `resources` all that the group has; those that it had before and has no more are removed."""
        before = self._groups.get(group, {})
        now = {type_url: frozenset(bodies) for type_url, bodies in resources.by_type()}
        with self.publication.change() as caches:
            for type_url, bodies in resources.by_type():
                for name, body in bodies.items():
                    caches[type_url].put(name, body)
                for name in before.get(type_url, frozenset()) - now[type_url]:
                    caches[type_url].remove(name)
        self._groups[group] = now
        self._forget_vanished()

    def put_endpoints(self, endpoints: Encoded) -> None:
        """Change assignments of a group that is there already, and nothing else."""
        with self.publication.change() as caches:
            for name, body in endpoints.items():
                caches[ENDPOINT].put(name, body)

    def remove(self, group: str) -> None:
        """Take everything of a group away."""
        if group in self._groups:
            self.put(group, Resources())
            del self._groups[group]

    def groups(self, prefix: str) -> list[str]:
        """The groups whose names begin with `prefix`."""
        return [name for name in self._groups if name.startswith(prefix)]

    def mark_synced(self) -> None:
        """Let Envoy have it: what is here is everything."""
        with self.publication.change() as caches:
            for cache in caches.values():
                cache.mark_synced()

    def on_acked(self, acked: Acked) -> None:
        """Envoy took these."""
        self._note_listeners(acked)
        self._settle(acked.type_url, acked.accepted, {})

    def on_nacked(self, nacked: Nacked) -> None:
        """Envoy refused some of these."""
        self._note_listeners(nacked)
        reasons = {name: rejection.reason or nacked.message for name, rejection in nacked.rejected.items()}
        self._settle(nacked.type_url, nacked.accepted, reasons)

    def forget_listeners(self) -> None:
        """Envoy is away: what it listens with is not known any more."""
        self._listening.clear()

    def unheard(self, listeners: Iterable[str]) -> frozenset[str]:
        """Those of our listeners that Envoy has not taken as they are now."""
        ours = self.publication[LISTENER]
        return frozenset(
            name
            for name in listeners
            if (resource := ours.get(name)) is not None and self._listening.get(name) != resource.version
        )

    def retry_refused(self) -> None:
        """Offer what was refused once more: a port that was in use may be free now. A new version makes it news."""
        self._retries += 1
        with self.publication.change() as caches:
            for type_url, name in self._refused:
                resource = caches[type_url].get(name)
                if resource is not None:
                    caches[type_url].put(name, resource.body, f"{resource.version.partition('.')[0]}.{self._retries}")

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Everything that Envoy does not have because it refused it."""
        return tuple(
            Refusal(type_url.rpartition(".")[2], name, reason)
            for (type_url, name), reason in sorted(self._refused.items())
        )

    def _note_listeners(self, outcome: Acked | Nacked) -> None:
        if outcome.type_url == LISTENER:
            self._listening.update(outcome.accepted)
            for name in outcome.removed:
                self._listening.pop(name, None)

    def _settle(self, type_url: str, accepted: Mapping[str, str], reasons: Mapping[str, str]) -> None:
        before = dict(self._refused)
        for name in accepted:
            self._refused.pop((type_url, name), None)
        for name, reason in reasons.items():
            self._refused[(type_url, name)] = reason
        if before != self._refused:
            self._on_refusals(self.refusals)

    def _forget_vanished(self) -> None:
        gone = [key for key in self._refused if key[1] not in self.publication[key[0]]]
        for key in gone:
            del self._refused[key]
        if gone:
            self._on_refusals(self.refusals)
