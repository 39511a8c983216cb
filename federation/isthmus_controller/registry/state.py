"""Follow changes of etcd and answer, after each, with exactly the resources that they change.

The published state depends on the keys alone and not on the order in which they were seen: every replica gives the
same answers, and so does one that has just started.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from isthmus_controller.registry import records, resources
from isthmus_controller.registry.records import Record, RecordKey, Session
from isthmus_controller.store.keys import ClusterKey, EndpointsKey, ExportKey, GatewayKey, Keys
from isthmus_controller.store.replica import Held
from isthmus_controller.store.values import Change
from isthmus_core.errors import InvalidInput
from isthmus_core.merge import Merged, merge
from isthmus_core.model import Capacity, Cluster, Export, Gateway
from isthmus_core.names import ClusterId, ServiceName
from isthmus_sync import codec

_K = TypeVar("_K")
_V = TypeVar("_V")


class Published(msgspec.Struct, frozen=True):
    """A resource that gateways must be told; body None: it is gone. `audience` None: all of them."""

    type_url: str
    name: str
    body: bytes | None
    audience: ClusterId | None = None


class _Dirty(msgspec.Struct):
    """What one batch of changes touches; it is worked out once, after the batch."""

    clusters: set[ClusterId] = msgspec.field(default_factory=set)
    services: set[ServiceName] = msgspec.field(default_factory=set)
    capacities: set[tuple[ServiceName, ClusterId]] = msgspec.field(default_factory=set)


class Registry:
    """Everything that stands in etcd, and everything that is published because of it."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._raw: dict[RecordKey, bytes] = {}
        self._count: Counter[ClusterId] = Counter()
        self.quarantined: dict[str, str] = {}
        """Keys that cannot be read, with the reason; the rest goes on without them."""
        self.clusters: dict[ClusterId, Cluster] = {}
        """The members, joined with their gateways and sessions."""
        self.merged: dict[ServiceName, Merged] = {}
        """Every import, with its conflicts."""
        self._members: dict[ClusterId, Cluster] = {}
        self._gateways: defaultdict[ClusterId, dict[str, Gateway]] = defaultdict(dict)
        self._sessions: defaultdict[ClusterId, dict[str, Session]] = defaultdict(dict)
        self._exports: defaultdict[ServiceName, dict[ClusterId, Export]] = defaultdict(dict)
        self._capacities: defaultdict[ServiceName, dict[ClusterId, Capacity]] = defaultdict(dict)
        self._unreadable: defaultdict[ServiceName, dict[ClusterId, str]] = defaultdict(dict)
        self._offers: defaultdict[ClusterId, set[ServiceName]] = defaultdict(set)
        self._notified: defaultdict[ServiceName, set[ClusterId]] = defaultdict(set)
        self._told: dict[tuple[str, str, ClusterId | None], bytes] = {}

    def apply(self, changes: Iterable[Change]) -> list[Published]:
        """Take changes in; the resources that are different now, in an order that is safe to tell."""
        dirty = _Dirty()
        for change in changes:
            self._take(change, dirty)
        return self._publish(dirty)

    def export(self, service: ServiceName, cluster: ClusterId) -> Export | None:
        """What a cluster exports under a name."""
        return self._exports.get(service, {}).get(cluster)

    def exports(self) -> Iterable[Export]:
        """Every export of every member, in no particular order."""
        return (e for by_cluster in self._exports.values() for e in by_cluster.values() if e.cluster in self._members)

    def capacities(self, service: ServiceName) -> Mapping[ClusterId, Capacity]:
        """What is alive of a service in each member that exports it."""
        exporters = self._exports.get(service, {})
        known = self._capacities.get(service, {})
        return {cluster: c for cluster, c in known.items() if cluster in exporters and cluster in self._members}

    def observed_at_ms(self, cluster: ClusterId) -> int:
        """When the cluster last saw one of its capacities change, by its own clock; 0 when it never did."""
        seen = (self._capacities.get(service, {}).get(cluster) for service in self._offers.get(cluster, ()))
        return max((capacity.observed_at_ms for capacity in seen if capacity), default=0)

    def exported(self, cluster: ClusterId) -> int:
        """How many services a cluster exports."""
        return sum(1 for service in self._offers.get(cluster, ()) if cluster in self._exports.get(service, {}))

    def offers(self, cluster: ClusterId) -> Iterable[ServiceName]:
        """The services of which the registry holds an export or a capacity of this cluster."""
        return sorted(self._offers.get(cluster, ()))

    def offer_count(self, cluster: ClusterId) -> int:
        """How many services those are."""
        return len(self._offers.get(cluster, ()))

    def is_offered(self, service: ServiceName, cluster: ClusterId) -> bool:
        """Whether this is one of them."""
        return service in self._offers.get(cluster, ())

    def capacity_body(self, name: str) -> bytes | None:
        """What is published of a capacity, called NAMESPACE/SERVICE/CLUSTER; None when nothing is."""
        return self._told.get((codec.CAPACITY, name, None))

    def raw(self, key: RecordKey) -> bytes | None:
        """The bytes that stand in etcd under a key, readable or not."""
        return self._raw.get(key)

    def connected(self, cluster: ClusterId) -> set[str]:
        """The gateways of a cluster that are connected to a controller now."""
        return {gateway for gateway, session in self._sessions.get(cluster, {}).items() if session.held}

    def gateways(self, cluster: ClusterId) -> Mapping[str, Gateway]:
        """The gateways of a cluster that others may come to, connected or not."""
        return self._gateways.get(cluster, {})

    def sessions(self, cluster: ClusterId) -> Mapping[str, Session]:
        """What is known of the sessions of a cluster's gateways; one that others may not come to has one, too."""
        return self._sessions.get(cluster, {})

    def session(self, cluster: ClusterId, gateway: str) -> Session | None:
        """What is known of a gateway's session."""
        return self._sessions.get(cluster, {}).get(gateway)

    def known_gateways(self) -> Iterable[GatewayKey]:
        """Every gateway of every member."""
        return (GatewayKey(c, gateway) for c in self._members for gateway in self._gateways.get(c, {}))

    def orphans(self) -> list[RecordKey]:
        """Keys of clusters that are no members: left over from a removal that was interrupted."""
        strangers = {cluster for cluster, keys in self._count.items() if keys and not self.is_registered(cluster)}
        return [key for key in self._raw if key.cluster in strangers] if strangers else []

    def _take(self, change: Change, dirty: _Dirty) -> None:
        self.quarantined.pop(change.key, None)
        try:
            key = self._keys.parse(change.key)
        except InvalidInput as error:
            if change.value is not None:
                self.quarantined[change.key] = str(error)
            return
        if not isinstance(key, RecordKey):
            return
        self._count[key.cluster] += (change.value is not None) - (key in self._raw)
        _put(self._raw, key, change.value)
        if change.value is None:
            self._set(key, None, dirty, "")
            return
        try:
            held = Held(change.value, change.mod_revision, change.create_revision)
            self._set(key, records.read(key, held), dirty, "")
        except InvalidInput as error:
            self.quarantined[change.key] = str(error)
            self._set(key, None, dirty, str(error))

    def _set(self, key: RecordKey, record: Record | None, dirty: _Dirty, unreadable: str) -> None:
        if isinstance(key, ExportKey | EndpointsKey):
            self._set_of_service(key, record, dirty, unreadable)
            return
        cluster = key.cluster
        dirty.clusters.add(cluster)
        if isinstance(key, ClusterKey):
            if (record is None) != (cluster not in self._members):
                # Offers count only while their cluster is a member.
                dirty.services.update(self._offers[cluster])
            _put(self._members, cluster, cast("Cluster | None", record))
        elif isinstance(key, GatewayKey):
            _put(self._gateways[cluster], key.gateway, cast("Gateway | None", record))
        else:
            _put(self._sessions[cluster], key.gateway, cast("Session | None", record))

    def _set_of_service(
        self, key: ExportKey | EndpointsKey, record: Record | None, dirty: _Dirty, unreadable: str
    ) -> None:
        service, cluster = key.service, key.cluster
        if isinstance(key, ExportKey):
            dirty.services.add(service)
            _put(self._exports[service], cluster, cast("Export | None", record))
            _put(self._unreadable[service], cluster, unreadable or None)
        else:
            dirty.capacities.add((service, cluster))
            _put(self._capacities[service], cluster, cast("Capacity | None", record))
        tables = (self._exports, self._capacities, self._unreadable)
        if any(cluster in table[service] for table in tables):
            self._offers[cluster].add(service)
        else:
            self._offers[cluster].discard(service)

    def is_registered(self, cluster: ClusterId) -> bool:
        """Whether a record of the cluster stands in etcd, readable or not."""
        return ClusterKey(cluster) in self._raw

    def _publish(self, dirty: _Dirty) -> list[Published]:
        out: list[Published] = []
        for cluster in sorted(dirty.clusters):
            self._publish_cluster(cluster, out)
        for service in sorted(dirty.services):
            self._publish_service(service, dirty, out)
        for service, cluster in sorted(dirty.capacities):
            self._publish_capacity(service, cluster, out)
        return out

    def _publish_cluster(self, cluster: ClusterId, out: list[Published]) -> None:
        member = self._members.get(cluster)
        if member is None:
            self.clusters.pop(cluster, None)
            self._tell(codec.CLUSTER, cluster, None, None, out)
            return
        joined = resources.joined_cluster(member, self._gateways[cluster], self._sessions[cluster])
        self.clusters[cluster] = joined
        self._tell(codec.CLUSTER, cluster, None, resources.cluster_body(joined), out)

    def _publish_service(self, service: ServiceName, dirty: _Dirty, out: list[Published]) -> None:
        name = str(service)
        exports = [e for e in self._exports[service].values() if e.cluster in self._members]
        if exports:
            merged = self.merged[service] = merge(exports)
            self._tell(codec.IMPORT, name, None, resources.import_body(merged.service), out)
            body = resources.status_body(service, resources.conditions(merged))
            told = {export.cluster: body for export in exports}
        else:
            self.merged.pop(service, None)
            self._tell(codec.IMPORT, name, None, None, out)
            told = {}
        for cluster, reason in self._unreadable[service].items():
            if cluster in self._members:
                told[cluster] = resources.status_body(service, resources.unreadable(reason))
        for cluster in sorted(self._notified[service] | told.keys()):
            self._tell(codec.EXPORT_STATUS, name, cluster, told.get(cluster), out)
        dirty.capacities.update((service, cluster) for cluster in self._notified[service] | told.keys())
        self._notified[service] = set(told)
        self._forget_if_empty(service)

    def _publish_capacity(self, service: ServiceName, cluster: ClusterId, out: list[Published]) -> None:
        offered = cluster in self._members and cluster in self._exports.get(service, {})
        known = cluster in self._capacities.get(service, {})
        # The bytes that the cluster sent are the bytes that all others get: nothing is serialised again.
        body = self._raw[EndpointsKey(service, cluster)] if offered and known else None
        self._tell(codec.CAPACITY, f"{service}/{cluster}", None, body, out)

    def _tell(
        self, type_url: str, name: str, audience: ClusterId | None, body: bytes | None, out: list[Published]
    ) -> None:
        """Publish when it differs from what was told before."""
        key = (type_url, name, audience)
        if self._told.get(key) == body:
            return
        if body is None:
            del self._told[key]
        else:
            self._told[key] = body
        out.append(Published(type_url, name, body, audience))

    def _forget_if_empty(self, service: ServiceName) -> None:
        tables: tuple[dict[ServiceName, Any], ...] = (self._exports, self._capacities, self._unreadable, self._notified)
        for table in tables:
            if not table.get(service, True):
                del table[service]


def _put(table: dict[_K, _V], key: _K, value: _V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
