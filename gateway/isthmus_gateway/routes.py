"""Keep what Envoy and DNS are told in step with the fleet, the local services and the health of the ways between."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from isthmus_core.model import Capacity, HealthCheck, Here, LocalService, LocalServices, ServicePort, ServiceType
from isthmus_core.names import ClusterId, ServiceName
from isthmus_core.route import ServiceRoute, route
from isthmus_gateway.envoy_feed import EnvoyFeed
from isthmus_gateway.fleet import FleetTable
from isthmus_gateway.resources import build_assignments, build_service
from isthmus_gateway.vips import Range, allocate
from isthmus_gateway.zone import build_zone_service
from isthmus_gateway.zone_feed import ZoneFeed

# So many services are done before others get their turn (a millisecond or so each at worst).
BATCH = 32
FEW = 4

Shape = tuple[tuple[ServicePort, ...], str | None, str, HealthCheck | None]


class Routes:
    """The routing table of this cluster. Services are touched, and `run` computes each touched one once."""

    def __init__(
        self,
        here: Here,
        fleet: FleetTable,
        offered: Mapping[ServiceName, Capacity],
        envoy: EnvoyFeed,
        zone: ZoneFeed,
        pool: Range,
    ) -> None:
        self.fleet: Final = fleet
        self.offered: Final = offered
        self.routes: dict[ServiceName, ServiceRoute] = {}
        self.local: dict[ServiceName, LocalService] = {}
        self.unreachable: set[ClusterId] = set()
        self.lately: set[ClusterId] = set()
        """Those of the unreachable that answered until a moment ago."""
        self.vips: Mapping[ServiceName, str] = {}
        self.exhausted: tuple[ServiceName, ...] = ()
        self._here = here
        self._envoy = envoy
        self._zone = zone
        self._pool = pool
        self._shapes: dict[ServiceName, Shape] = {}
        self._endpoints: dict[ServiceName, object] = {}
        self._touched: dict[ServiceName, None] = {}
        self._stirred = asyncio.Event()

    def restore_vips(self, vips: Mapping[str, str]) -> None:
        """Addresses from an earlier life."""
        self.vips = {ServiceName(*name.split("/", 1)): address for name, address in vips.items() if "/" in name}

    def allocate_vips(self, reserved: frozenset[str], *, complete: bool = True) -> None:
        """Give each import with an address of its own one; to be called when imports came or went.

        Not `complete`: more imports are still to come.
        """
        wanted = [name for name, held in self.fleet.imports.items() if held.type is ServiceType.CLUSTER_SET_IP]
        result = allocate(wanted, self.vips, self._pool, reserved, complete=complete)
        self.touch(name for name in wanted if result.assigned.get(name) != self.vips.get(name))
        self.vips, self.exhausted = result.assigned, result.exhausted

    def vip(self, service: ServiceName) -> str | None:
        """The address of an imported service; None for headless ones, and when none was left."""
        held = self.fleet.imports.get(service)
        return self.vips.get(service) if held and held.type is ServiceType.CLUSTER_SET_IP else None

    def set_local(self, services: LocalServices) -> frozenset[ServiceName]:
        """Take over the newest local services; gives those that differ, which must be touched."""
        changed = {name for name, service in services.items() if self.local.get(name) != service}
        changed |= self.local.keys() - services.keys()
        self.local = dict(services)
        return frozenset(changed)

    def touch(self, services: Iterable[ServiceName]) -> None:
        """These services must be looked at again."""
        self._touched.update(dict.fromkeys(services))
        if self._touched:
            self._stirred.set()

    async def run(self, on_done: Callable[[], None]) -> None:
        """Compute touched services for ever; `on_done` is called after each round."""
        while True:
            await self._stirred.wait()
            while self._touched:
                self.compute(BATCH)
                on_done()
                await asyncio.sleep(0)
            self._stirred.clear()

    def hurry(self) -> bool:
        """Compute a few touched services at once, which is the common case; whether that was done."""
        if not 0 < len(self._touched) <= FEW:
            return False
        self.compute()
        return True

    def compute(self, limit: int | None = None) -> None:
        """Compute the touched services, `limit` of them at most, as one change."""
        chosen = list(self._touched)[:limit]
        with self._envoy.publication.change(), self._zone.publication.change():
            for service in chosen:
                del self._touched[service]
                self._compute(service)

    def capacities(self, service: ServiceName) -> Mapping[ClusterId, Capacity]:
        """What every exporter has of a service, this cluster included."""
        own = self.offered.get(service)
        others = self.fleet.capacities.get(service, {})
        return {**others, self._here.cluster: own} if own is not None else others

    def _compute(self, service: ServiceName) -> None:
        imported = self.fleet.imports.get(service)
        if imported is None:
            self._forget(service)
            return
        capacities, local, vip = self.capacities(service), self.local.get(service), self.vip(service)
        before = self.routes.get(service)
        found = route(imported, self.fleet.clusters, capacities, self._here, self.unreachable, self.lately)
        self.routes[service] = found
        check = local.health_check if local else None
        shape: Shape = (imported.ports, vip, imported.session_affinity, check)
        endpoints = local.endpoints if local else ()
        listeners: Iterable[str] = ()
        # Only what differs is built again: a changed endpoint or weight costs its assignments, mere words nothing.
        if self._shapes.get(service) != shape:
            self._shapes[service] = shape
            resources = build_service(found, vip, local, imported.session_affinity)
            self._envoy.put(f"service/{service}", resources)
            listeners = self._envoy.unheard(resources.listeners)
        elif vip is not None and (
            before is None or before.ports != found.ports or self._endpoints[service] != endpoints
        ):
            self._envoy.put_endpoints(build_assignments(found, local))
        self._endpoints[service] = endpoints
        named = build_zone_service(imported, found, capacities, self.fleet.clusters, self._here, vip)
        self._zone.put(named, listeners)

    def _forget(self, service: ServiceName) -> None:
        self.routes.pop(service, None)
        self._shapes.pop(service, None)
        self._endpoints.pop(service, None)
        self._envoy.remove(f"service/{service}")
        self._zone.remove(service)
