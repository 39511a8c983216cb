"""Count what the controller does, for Prometheus."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from isthmus_controller.exports.committer import CommitStats
from isthmus_controller.registry import Registry
from isthmus_controller.store import Batch
from isthmus_sync import Acked, Nacked

_FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class ControllerMetrics(CommitStats):
    """All metrics of one controller; `clock` is the event loop's time in seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self.registry = registry
        self._clock = clock
        self._pending: dict[int, float] = {}
        self._told: dict[int, float] = {}
        self.streams = Gauge("isthmus_streams", "Open streams", ["kind", "cluster"], registry=registry)
        self.changes = Counter("isthmus_registry_changes", "Keys that changed in etcd", ["origin"], registry=registry)
        self.writes = Counter("isthmus_commit_operations", "Operations that were written to etcd", registry=registry)
        self.equal = Counter("isthmus_commit_unchanged", "Wishes that stood in etcd already", registry=registry)
        self.latency = Histogram(
            "isthmus_etcd_transaction_seconds", "Time of a transaction", buckets=_FAST, registry=registry
        )
        self.propagation = Histogram(
            "isthmus_propagation_seconds",
            "From a gateway's wish taken in to the moment that all gateways of this replica are told",
            buckets=_FAST,
            registry=registry,
        )
        self.rejected = Counter("isthmus_resources_rejected", "Resources refused", ["cluster"], registry=registry)
        self.refused = Counter(
            "isthmus_identities_refused", "Callers whose certificate was refused", ["listener"], registry=registry
        )
        for listener in ("grpc", "admin"):
            self.refused.labels(listener)
        self.acked = Counter("isthmus_imports_acked", "Responses accepted by gateways", ["cluster"], registry=registry)
        self.nacked = Counter("isthmus_imports_nacked", "Resources refused by gateways", ["cluster"], registry=registry)

    def describe(self, view: Registry, revision: Callable[[], int], leading: Callable[[], bool]) -> None:
        """Metrics that are read from the state when somebody asks."""

        def gauge(name: str, text: str, read: Callable[[], float]) -> None:
            Gauge(name, text, registry=self.registry).set_function(read)

        gauge("isthmus_clusters", "Members", lambda: len(view.clusters))
        gauge("isthmus_sessions", "Connected gateways", lambda: sum(len(view.connected(c)) for c in view.clusters))
        gauge("isthmus_services", "Services", lambda: len(view.merged))
        gauge("isthmus_quarantined_keys", "Keys that cannot be read", lambda: len(view.quarantined))
        gauge("isthmus_registry_revision", "Revision of etcd that was read", revision)
        gauge("isthmus_leader", "1 when this replica does the singleton work", lambda: float(leading()))

    @contextmanager
    def stream(self, kind: str, cluster: str) -> Iterator[None]:
        """Counts a stream while it is open."""
        open_streams = self.streams.labels(kind, cluster)
        open_streams.inc()
        try:
            yield
        finally:
            open_streams.dec()

    def committed(self, operations: int, seconds: float, revision: int, started: float) -> None:
        """One transaction is in etcd; the time until it is told is taken when our own watch brings it back."""
        self.writes.inc(operations)
        self.latency.observe(seconds)
        told = self._told.pop(revision, None)
        if told is not None:
            self.propagation.observe(told - started)
        else:
            _remember(self._pending, revision, started)

    def unchanged(self, operations: int) -> None:
        """Wishes that stood in etcd already."""
        self.equal.inc(operations)

    def observe(self, batch: Batch) -> None:
        """A batch of changes was told to all gateways."""
        self.changes.labels(batch.origin.value).inc(len(batch.changes))
        started = self._pending.pop(batch.revision, None)
        if started is not None:
            self.propagation.observe(self._clock() - started)
        else:
            # The watch is often faster than the answer to the write.
            _remember(self._told, batch.revision, self._clock())

    def on_acked(self, cluster: str) -> Callable[[Acked], None]:
        """A hook for a stream."""
        counter = self.acked.labels(cluster)
        return lambda _: counter.inc()

    def on_nacked(self, cluster: str) -> Callable[[Nacked], None]:
        """A hook for a stream."""
        counter = self.nacked.labels(cluster)
        return lambda nacked: counter.inc(len(nacked.rejected))


def _remember(times: dict[int, float], revision: int, moment: float) -> None:
    """Keep the newest hundred: what is older belongs to another replica's write, or to one that changed nothing."""
    times[revision] = moment
    if len(times) > 100:
        del times[next(iter(times))]
