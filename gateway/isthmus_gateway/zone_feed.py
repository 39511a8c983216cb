"""Publish the zone to the DNS servers of this cluster: one resource a service, and a header with a growing serial."""

from collections.abc import Callable, Iterable

import msgspec

from isthmus_core.names import ClusterId, ServiceName
from isthmus_gateway.zone import HEADER, build_header, next_serial
from isthmus_sync import ZONE, ZONE_HEADER, ZONE_SERVICE, Publication, ResourceCache
from isthmus_sync.proto import isthmus_pb2 as pb

HOLD_S = 1.0
"""So long a new name may wait for Envoy."""


class _Held(msgspec.Struct):
    """A new service whose listeners Envoy has not taken yet."""

    body: bytes
    listeners: set[str]
    until: float


class ZoneFeed:
    """What the DNS servers are told; nothing is answered from it before `mark_synced`.

    A name must not lead to an address where nobody listens yet: a service that comes while Envoy follows is published
    when Envoy has taken its listeners, or after `HOLD_S`. What is published already is never held back, and nothing is
    while Envoy is away or before `mark_synced`. `clock` gives seconds that only grow.
    """

    def __init__(self, cluster: ClusterId, serial: int, clock: Callable[[], float]) -> None:
        self.publication: Publication = Publication(
            [ResourceCache(ZONE_SERVICE), ResourceCache(ZONE_HEADER)], order=ZONE
        )
        self.serial = serial
        self.stale = False
        self._cluster = cluster
        self._synced_at_ms = 0
        self._confirmed = False
        self._dirty = False
        self._clock = clock
        self._envoy_follows = False
        self._held: dict[str, _Held] = {}

    def put(self, service: pb.ZoneService, listeners: Iterable[str] = ()) -> None:
        """Publish a service, for whose VIP Envoy has still to take `listeners`; equal content changes nothing."""
        name = f"{service.namespace}/{service.name}"
        body = service.SerializeToString(deterministic=True)
        known = self.publication[ZONE_SERVICE]
        if (held := self._held.get(name)) is not None:
            held.body = body
        elif self._envoy_follows and known.synced and name not in known and (waits_for := set(listeners)):
            self._held[name] = _Held(body, waits_for, self._clock() + HOLD_S)
        else:
            self._publish(name, body)

    def _publish(self, name: str, body: bytes) -> None:
        with self.publication.change() as caches:
            self._dirty |= caches[ZONE_SERVICE].put(name, body)

    def remove(self, service: ServiceName) -> None:
        """The service is not imported any more."""
        self._held.pop(str(service), None)
        with self.publication.change() as caches:
            self._dirty |= caches[ZONE_SERVICE].remove(str(service))

    @property
    def holding(self) -> bool:
        """Whether a new service waits for Envoy."""
        return bool(self._held)

    def envoy_came(self) -> None:
        """Envoy follows what it is told."""
        self._envoy_follows = True

    def envoy_went(self) -> None:
        """Envoy is away: nobody can say when it listens."""
        self._envoy_follows = False
        self._release(list(self._held))

    def envoy_took(self, listeners: Iterable[str]) -> None:
        """Envoy listens with these from now on."""
        taken = set(listeners) if self._held else set()
        for held in self._held.values():
            held.listeners -= taken
        self._release([name for name, held in self._held.items() if not held.listeners])

    def release_overdue(self) -> None:
        """Publish what has waited for too long."""
        now = self._clock()
        self._release([name for name, held in self._held.items() if held.until <= now])

    def _release(self, names: Iterable[str]) -> None:
        for name in names:
            self._publish(name, self._held.pop(name).body)

    def confirm(self, stale: bool, synced_at_ms: int, confirmed: bool) -> None:
        """Say whether a controller confirms the knowledge behind the zone, when one did last, and whether that is long.

        The moment is published only when one of the others changes: it is told to tell the age from then on.
        """
        if (stale, confirmed) != (self.stale, self._confirmed) or self._synced_at_ms == 0:
            self.stale, self._confirmed, self._synced_at_ms, self._dirty = stale, confirmed, synced_at_ms, True

    def commit(self, now_s: int) -> bool:
        """Publish the header of what changed since the last call; whether anything did."""
        if not self._dirty:
            return False
        self._dirty = False
        self.serial = next_serial(self.serial, now_s)
        header = build_header(self._cluster, self.serial, self.stale, self._synced_at_ms, self._confirmed)
        with self.publication.change() as caches:
            caches[ZONE_HEADER].put(HEADER, header.SerializeToString(deterministic=True))
        return True

    def mark_synced(self, now_s: int) -> None:
        """Let the DNS servers have it: what is here is everything."""
        self._dirty = True
        self.commit(now_s)
        with self.publication.change() as caches:
            for cache in caches.values():
                cache.mark_synced()
