"""How much one cluster may have in the registry, so that none of them takes the room of all."""

from collections.abc import Collection

from isthmus_controller.registry import Registry, Wish
from isthmus_controller.store import EndpointsKey, ExportKey, GatewayKey
from isthmus_core.names import ClusterId, ServiceName

MAX_SERVICES = 20_000
MAX_GATEWAYS = 100


class Room:
    """What one update of a cluster may still bring into being."""

    def __init__(self, registry: Registry, cluster: ClusterId, own: Collection[str] = ()) -> None:
        """`own` are the gateways of the stream: those that nobody is told of yet stand nowhere else."""
        self._registry = registry
        self._cluster = cluster
        self._known = {*registry.gateways(cluster), *registry.connected(cluster), *own}
        self._offered = registry.offer_count(cluster)
        self._gateways: set[str] = set()
        self._services: set[ServiceName] = set()

    def refusal(self, wish: Wish) -> str:
        """Why the wish is not taken; empty when there is room. What is there already always has its place."""
        key = wish.key
        if wish.body is None:
            return ""
        if isinstance(key, GatewayKey) and key.gateway not in self._known:
            if key.gateway not in self._gateways and len(self._known) + len(self._gateways) >= MAX_GATEWAYS:
                return f"cluster {self._cluster} has {MAX_GATEWAYS} gateways, and no cluster may have more"
            self._gateways.add(key.gateway)
        if isinstance(key, ExportKey | EndpointsKey) and not self._registry.is_offered(key.service, self._cluster):
            if key.service not in self._services and self._offered + len(self._services) >= MAX_SERVICES:
                return f"cluster {self._cluster} offers {MAX_SERVICES} services, and no cluster may offer more"
            self._services.add(key.service)
        return ""
