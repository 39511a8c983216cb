"""Keep what the controller says of the federation, resource by resource, and say what each update touches."""

from collections.abc import Iterable, Mapping

import msgspec
from google.protobuf.message import DecodeError

from isthmus_core.errors import InvalidInput
from isthmus_core.model import Capacity, Cluster, Condition, Exporter, Import
from isthmus_core.names import ClusterId, ServiceName
from isthmus_sync import CAPACITY, CLUSTER, EXPORT_STATUS, IMPORT, TRUST_BUNDLE, Changed, Update, codec
from isthmus_sync.proto import isthmus_pb2 as pb

TYPES = (TRUST_BUNDLE, CLUSTER, IMPORT, CAPACITY, EXPORT_STATUS)
ROOTS = "roots"


class Touched(msgspec.Struct, frozen=True):
    """What an update changes, and the resources that were refused (name -> reason)."""

    services: frozenset[ServiceName] = frozenset()
    clusters: frozenset[ClusterId] = frozenset()
    imports: bool = False  # an import came, went, or changed its type: VIPs must be looked at
    roots: bool = False
    statuses: frozenset[ServiceName] = frozenset()
    rejected: Mapping[str, str] = {}


class FleetTable:
    """The fleet as it is known now. Belongs to one event loop; everything inside the mappings is frozen."""

    def __init__(self, here: ClusterId | None = None) -> None:
        """`here` is our own cluster: what the registry says of its capacity is the echo of what we told it."""
        self._here = here
        self.clusters: dict[ClusterId, Cluster] = {}
        self.imports: dict[ServiceName, Import] = {}
        self.capacities: dict[ServiceName, dict[ClusterId, Capacity]] = {}
        self.statuses: dict[ServiceName, tuple[Condition, ...]] = {}
        self.resources: dict[str, dict[str, Changed]] = {type_url: {} for type_url in TYPES}
        self._exported_by: dict[ClusterId, set[ServiceName]] = {}

    def apply(self, update: Update) -> Touched:
        """Take an update in; a resource that cannot be used is refused by itself and its last good state stays."""
        tally = _Tally()
        for name, changed in update.changed.items():
            try:
                self._put(update.type_url, name, changed.body, tally)
            except (InvalidInput, DecodeError, KeyError, ValueError) as error:
                reason = str(error) if isinstance(error, InvalidInput) else f"it cannot be decoded: {error!r}"
                tally.rejected[name] = reason
            else:
                self.resources[update.type_url][name] = changed
        for name in update.removed:
            self._remove(update.type_url, name, tally)
            self.resources[update.type_url].pop(name, None)
        return tally.touched()

    def restore(self, resources: Mapping[str, Mapping[str, tuple[str, bytes]]]) -> Touched:
        """Take in what a snapshot kept."""
        tally = _Tally()
        for type_url in TYPES:
            known = {name: Changed(version, body) for name, (version, body) in resources.get(type_url, {}).items()}
            update = Update(type_url, known, frozenset(), {}, "snapshot", True)
            tally.join(self.apply(update))
        return tally.touched()

    def versions(self) -> dict[str, dict[str, str]]:
        """Type -> name -> version: where a new stream goes on."""
        return {kind: {name: held.version for name, held in names.items()} for kind, names in self.resources.items()}

    def services_of(self, cluster: ClusterId) -> frozenset[ServiceName]:
        """The imports that a cluster stands behind."""
        return frozenset(self._exported_by.get(cluster, ()))

    def _put(self, type_url: str, name: str, body: bytes, tally: "_Tally") -> None:
        if type_url == CLUSTER:
            self._put_cluster(name, codec.cluster_value(pb.Cluster.FromString(body)), tally)
        elif type_url == IMPORT:
            self._put_import(name, codec.import_value(pb.Import.FromString(body)), tally)
        elif type_url == CAPACITY:
            capacity = codec.capacity_value(pb.Capacity.FromString(body))
            _same(name, f"{capacity.service}/{capacity.cluster}")
            first = capacity.cluster not in self.capacities.setdefault(capacity.service, {})
            self.capacities[capacity.service][capacity.cluster] = capacity
            if first or capacity.cluster != self._here:
                tally.services.add(capacity.service)
        elif type_url == EXPORT_STATUS:
            service, conditions = codec.status_value(pb.ExportStatus.FromString(body))
            _same(name, str(service))
            self.statuses[service] = conditions
            tally.statuses.add(service)
        elif type_url == TRUST_BUNDLE:
            _same(name, ROOTS)
            pb.TrustBundle.FromString(body)  # raises for what nobody could use
            tally.roots = True

    def _put_cluster(self, name: str, cluster: Cluster, tally: "_Tally") -> None:
        _same(name, cluster.id)
        before = self.clusters.get(cluster.id)
        self.clusters[cluster.id] = cluster
        tally.clusters.add(cluster.id)
        # New gateway addresses alone move no service: they stand in the one Envoy cluster that all services share.
        if before is None or _matters(before) != _matters(cluster):
            tally.services |= self.services_of(cluster.id)

    def _put_import(self, name: str, service: Import, tally: "_Tally") -> None:
        _same(name, str(service.service))
        before = self.imports.get(service.service)
        self._index(service.service, before.exporters if before else (), add=False)
        self._index(service.service, service.exporters, add=True)
        self.imports[service.service] = service
        tally.services.add(service.service)
        tally.imports |= before is None or before.type != service.type

    def _remove(self, type_url: str, name: str, tally: "_Tally") -> None:
        if type_url == CLUSTER and self.clusters.pop(ClusterId(name), None) is not None:
            tally.clusters.add(ClusterId(name))
            tally.services |= self.services_of(ClusterId(name))
        elif type_url == IMPORT:
            gone = self.imports.pop(_service(name), None)
            if gone is not None:
                self._index(gone.service, gone.exporters, add=False)
                tally.services.add(gone.service)
                tally.imports = True
        elif type_url == CAPACITY:
            service, _, cluster = name.rpartition("/")
            held = self.capacities.get(_service(service), {})
            if held.pop(ClusterId(cluster), None) is not None:
                tally.services.add(_service(service))
            if not held:
                self.capacities.pop(_service(service), None)
        elif type_url == EXPORT_STATUS and self.statuses.pop(_service(name), None) is not None:
            tally.statuses.add(_service(name))
        # The trust bundle never goes: without roots nobody could be trusted again.

    def _index(self, service: ServiceName, exporters: Iterable[Exporter], *, add: bool) -> None:
        for exporter in exporters:
            if add:
                self._exported_by.setdefault(exporter.cluster, set()).add(service)
            else:
                self._exported_by.get(exporter.cluster, set()).discard(service)


class _Tally:
    """Collects what an update touches."""

    def __init__(self) -> None:
        self.services: set[ServiceName] = set()
        self.clusters: set[ClusterId] = set()
        self.statuses: set[ServiceName] = set()
        self.imports = False
        self.roots = False
        self.rejected: dict[str, str] = {}

    def join(self, touched: Touched) -> None:
        self.services |= touched.services
        self.clusters |= touched.clusters
        self.statuses |= touched.statuses
        self.imports |= touched.imports
        self.roots |= touched.roots
        self.rejected |= touched.rejected

    def touched(self) -> Touched:
        return Touched(
            services=frozenset(self.services),
            clusters=frozenset(self.clusters),
            imports=self.imports,
            roots=self.roots,
            statuses=frozenset(self.statuses),
            rejected=self.rejected,
        )


def _matters(cluster: Cluster) -> tuple[object, ...]:
    """What routing looks at."""
    return (cluster.locality, cluster.state, bool(cluster.gateways), cluster.session_held, cluster.network)


def _same(name: str, inside: str) -> None:
    if name != inside:
        raise InvalidInput(f"the resource is called {name!r} and speaks of {inside!r}")


def _service(name: str) -> ServiceName:
    """A name that was accepted once; anything else names nothing."""
    namespace, _, service = name.partition("/")
    return ServiceName(namespace, service)
