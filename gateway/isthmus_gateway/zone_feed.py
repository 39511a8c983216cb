"""Publish the zone to the DNS servers of this cluster: one resource a service, and a header with a growing serial."""

from isthmus_core.names import ClusterId, ServiceName
from isthmus_gateway.zone import HEADER, build_header, next_serial
from isthmus_sync import ZONE, ZONE_HEADER, ZONE_SERVICE, Publication, ResourceCache
from isthmus_sync.proto import isthmus_pb2 as pb


class ZoneFeed:
    """What the DNS servers are told; nothing is answered from it before `mark_synced`."""

    def __init__(self, cluster: ClusterId, serial: int) -> None:
        self.publication: Publication = Publication(
            [ResourceCache(ZONE_SERVICE), ResourceCache(ZONE_HEADER)], order=ZONE
        )
        self.serial = serial
        self.stale = False
        self._cluster = cluster
        self._synced_at_ms = 0
        self._confirmed = False
        self._dirty = False

    def put(self, service: pb.ZoneService) -> None:
        """Publish a service; equal content changes nothing."""
        name = f"{service.namespace}/{service.name}"
        body = service.SerializeToString(deterministic=True)
        with self.publication.change() as caches:
            self._dirty |= caches[ZONE_SERVICE].put(name, body)

    def remove(self, service: ServiceName) -> None:
        """The service is not imported any more."""
        with self.publication.change() as caches:
            self._dirty |= caches[ZONE_SERVICE].remove(str(service))

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
