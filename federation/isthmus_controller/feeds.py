"""Keep what gateways are told: caches that all share, and one of its own for each cluster's export status."""

import asyncio
from collections.abc import Iterable

from isthmus_controller.registry import Published
from isthmus_core.names import ClusterId
from isthmus_sync import CAPACITY, CLUSTER, EXPORT_STATUS, FEDERATION, IMPORT, TRUST_BUNDLE, Publication, ResourceCache

_SHARED = (TRUST_BUNDLE, CLUSTER, IMPORT, CAPACITY)


class Feeds:
    """One publication a cluster over the same caches: each resource is serialised once, whoever reads it."""

    def __init__(self) -> None:
        self.shared = {type_url: ResourceCache(type_url) for type_url in _SHARED}
        self._statuses: dict[ClusterId, ResourceCache] = {}
        self._feeds: dict[ClusterId, Publication] = {}
        self._lagging: set[ClusterId] = set()
        self._synced = False
        self._large = asyncio.Lock()

    def of(self, cluster: ClusterId) -> Publication:
        """What the gateways of one cluster are told."""
        if cluster not in self._feeds:
            caches = [*self.shared.values(), self._status(cluster)]
            self._feeds[cluster] = Publication(caches, order=FEDERATION, large=self._large)
        return self._feeds[cluster]

    def tell(self, published: Iterable[Published]) -> None:
        """Make changes that belong together; every stream sees all of them at once."""
        news: set[ClusterId | None] = set()
        echoes: set[str] = set()
        for resource in published:
            cache = self._cache_of(resource)
            known = resource.name in cache
            changed = cache.remove(resource.name) if resource.body is None else cache.put(resource.name, resource.body)
            if changed and known and resource.body is not None and resource.type_url == CAPACITY:
                echoes.add(resource.name.rpartition("/")[2])
            elif changed:
                news.add(resource.audience)
        for cluster, feed in self._feeds.items():
            if None in news or cluster in news or echoes - {cluster}:
                self._lagging.discard(cluster)
                feed.wake()
            elif echoes:
                self._lagging.add(cluster)

    def catch_up(self) -> None:
        """Let clusters hear the echo of their own capacities, which they know best: it goes along with other news."""
        for cluster in self._lagging & self._feeds.keys():
            self._feeds[cluster].wake()
        self._lagging.clear()

    def mark_synced(self) -> None:
        """From now on streams are answered: before the first full read nobody is, an empty answer would be a lie."""
        if self._synced:
            return
        self._synced = True
        for cache in (*self.shared.values(), *self._statuses.values()):
            cache.mark_synced()
        for feed in self._feeds.values():
            feed.wake()

    def forget(self, cluster: ClusterId) -> None:
        """A cluster is no member any more; its streams are being closed."""
        self._statuses.pop(cluster, None)
        self._feeds.pop(cluster, None)

    def sizes(self) -> dict[str, int]:
        """How many resources of each shared type there are."""
        return {type_url: len(cache) for type_url, cache in self.shared.items()}

    def _cache_of(self, resource: Published) -> ResourceCache:
        return self.shared[resource.type_url] if resource.audience is None else self._status(resource.audience)

    def _status(self, cluster: ClusterId) -> ResourceCache:
        if cluster not in self._statuses:
            cache = self._statuses[cluster] = ResourceCache(EXPORT_STATUS)
            if self._synced:
                cache.mark_synced()
        return self._statuses[cluster]
