"""Tell the federation what this cluster offers: its exports, how much of each is alive, and where its gateway is."""

from collections.abc import Callable

import msgspec

from isthmus_core.model import Capacity, Export, Gateway, LocalService, ServiceType
from isthmus_core.names import ClusterId, ServiceName
from isthmus_gateway.capacity import Verdicts, judge
from isthmus_sync import CAPACITY, EXPORT, FEDERATION, GATEWAY, Publication, ResourceCache, codec

# So long a service waits for the first verdicts on its endpoints before it is published as it is. Longer than the first
# health checks take; a restarted gateway must not publish "nothing is alive" while its Envoy has just not looked yet.
FIRST_VERDICTS_S = 1.0


class Offers:
    """What is published on the Exports stream.

    `clock` gives seconds that only grow, `wall` milliseconds of Unix time. `network` is what other clusters have to be
    part of to reach our endpoints; without one nobody is told their addresses, except those of headless services.
    """

    def __init__(
        self, cluster: ClusterId, clock: Callable[[], float], wall: Callable[[], int], network: str = ""
    ) -> None:
        self.publication: Publication = Publication(
            [ResourceCache(GATEWAY), ResourceCache(EXPORT), ResourceCache(CAPACITY)], order=FEDERATION
        )
        self.verdicts = Verdicts()
        self.capacities: dict[ServiceName, Capacity] = {}
        self.pending: dict[ServiceName, int] = {}
        self._cluster = cluster
        self._clock = clock
        self._wall = wall
        self._network = network
        self._services: dict[ServiceName, LocalService] = {}
        self._waiting: dict[ServiceName, float] = {}  # since when
        self._envoy_since: float | None = None

    def describe(self, service: ServiceName, local: LocalService | None) -> None:
        """The service is now like this; None, or one without an export, is offered no more."""
        self.verdicts.retain(local, service)
        with self.publication.change() as caches:
            if local is None or local.export is None:
                self._services.pop(service, None)
                self.capacities.pop(service, None)
                self.pending.pop(service, None)
                self._waiting.pop(service, None)
                caches[EXPORT].remove(str(service))
                caches[CAPACITY].remove(str(service))
                return
            self._services[service] = local
            if caches[EXPORT].put(str(service), _export(local, self._cluster)):
                # Another gateway of the cluster may have withdrawn both: whoever says the one says the other, too.
                self.capacities.pop(service, None)
            self.judge(service)

    def mark_described(self) -> None:
        """All services of the source were described once: what is not here is not exported."""
        with self.publication.change() as caches:
            caches[EXPORT].mark_synced()
        self.look()

    def note(self, service: ServiceName, address: str, port: int, healthy: bool) -> bool:
        """A verdict of Envoy's; whether the service must be judged again."""
        return service in self._services and self.verdicts.note(service, address, port, healthy)

    def judge(self, service: ServiceName) -> None:
        """Publish how much of a service is alive, at once."""
        local = self._services.get(service)
        if local is None:
            return
        judged = judge(local, self._cluster, self.verdicts)
        known = self.capacities.get(service)
        same = known is not None and msgspec.structs.replace(known, observed_at_ms=0) == judged.capacity
        if not same:
            self.capacities[service] = msgspec.structs.replace(judged.capacity, observed_at_ms=self._wall())
        self.pending[service] = judged.pending
        cache = self.publication[CAPACITY]
        unknown = judged.pending > 0 and (str(service) not in cache or judged.capacity.ready == 0)
        if unknown and not self._waited(self._waiting.setdefault(service, self._clock())):
            return
        if judged.pending == 0:
            self._waiting.pop(service, None)
        with self.publication.change() as caches:
            message = codec.capacity_message(self.capacities[service])
            if not self._network and local.type is not ServiceType.HEADLESS:
                message.ClearField("endpoints")
            caches[CAPACITY].put(str(service), message.SerializeToString(deterministic=True))

    def envoy_serves(self) -> None:
        """Envoy has its configuration: from now on verdicts can be expected."""
        if self._envoy_since is None:
            self._envoy_since = self._clock()

    def _waited(self, since: float) -> bool:
        """Whether a service that waits for verdicts since then has waited long enough."""
        if self._envoy_since is None:
            return False
        return self._clock() - max(since, self._envoy_since) >= FIRST_VERDICTS_S

    def look(self) -> None:
        """Publish those whose time for first verdicts is over; called often while there are any."""
        for service in [name for name, since in self._waiting.items() if self._waited(since)]:
            self.judge(service)
            self._waiting.pop(service, None)
        cache = self.publication[CAPACITY]
        # Until then the registry keeps what it has: a capacity that is missing here would count as withdrawn.
        if not cache.synced and self.publication[EXPORT].synced and not self._waiting:
            with self.publication.change():
                cache.mark_synced()

    @property
    def waiting(self) -> bool:
        """Whether `look` still has something to do."""
        return bool(self._waiting) or not self.publication[CAPACITY].synced

    def announce(self, gateway: Gateway) -> None:
        """Other clusters may connect to this gateway."""
        with self.publication.change() as caches:
            message = codec.gateway_message(gateway)
            caches[GATEWAY].put(gateway.id, message.SerializeToString(deterministic=True))
            caches[GATEWAY].mark_synced()

    def withdraw_gateway(self) -> None:
        """Other clusters shall send nothing more."""
        with self.publication.change() as caches:
            for name in caches[GATEWAY].names():
                caches[GATEWAY].remove(name)
            caches[GATEWAY].mark_synced()


def _export(local: LocalService, cluster: ClusterId) -> bytes:
    wish = local.export
    if wish is None:
        raise ValueError(f"{local.service} is not exported")
    export = Export(
        service=local.service,
        cluster=cluster,
        type=local.type,
        ports=local.ports,
        labels=wish.labels,
        annotations=wish.annotations,
        session_affinity=local.session_affinity,
        exported_at_ms=wish.exported_at_ms,
    )
    return codec.export_message(export).SerializeToString(deterministic=True)
