"""A hub without Envoy, files, sockets or a clock, and what a test tells it and asks of it."""

from pathlib import Path

import msgspec
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener

from isthmus_core.model import ExportSpec, LocalService
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_gateway.envoy import Verdict
from isthmus_gateway.envoy_feed import Refusal
from isthmus_gateway.hub import Hub
from isthmus_gateway.membership import Membership
from isthmus_gateway.resources.names import ENDPOINT, LISTENER
from isthmus_gateway.settings import GatewaySettings
from isthmus_kit.readiness import Readiness
from isthmus_sync import CAPACITY
from isthmus_sync.proto import isthmus_pb2 as pb
from support.gateway_values import BERLIN, ECHO, capacity, cluster, imported, local, told

EXPORTED = ExportSpec()
EAST = ClusterId("east")


class World:
    """A hub of the cluster `here`, and a clock that stands still."""

    def __init__(self, vip_range: str = "127.80.0.0/24") -> None:
        self.now = 100.0
        self.changes = 0
        self.refusals: list[tuple[Refusal, ...]] = []
        self.readiness = Readiness("federation")
        member = Membership(
            id=ClusterId("here"), federation="f", domain="fed.test", locality=BERLIN, network="", controllers=("c:1",)
        )
        folder = Path("/nowhere")
        settings = GatewaySettings(
            data_dir=folder, services_dir=folder, gateway_id="g", listen_address="127.51.0.1", vip_range=vip_range
        )
        self.hub = Hub(
            member,
            settings.checked(),
            "/nowhere/health.log",
            self.readiness,
            lambda: self.now,
            lambda: int(self.now * 1000),
            self._changed,
            self.refusals.append,
        )

    def _changed(self) -> None:
        self.changes += 1

    def tell(self, *values: object, version: str = "1") -> None:
        for update in told(*values, version=version):  # type: ignore[arg-type]
            self.hub.take_fleet(self.hub.fleet.apply(update))
        self.settle()

    def settle(self) -> None:
        self.hub.routes.compute()
        self.hub.computed()

    def describe(self, *services: LocalService) -> None:
        self.hub.take_services({service.service: service for service in services})
        self.settle()

    def verdicts(self, name: str, healthy: bool, *where: tuple[str, int]) -> None:
        self.hub.take_verdicts(tuple(Verdict(name, address, port, healthy) for address, port in where))
        self.settle()

    def names(self, type_url: str) -> set[str]:
        return self.hub.feed.publication[type_url].names()

    def targets(self, service: ServiceName = ECHO, port: int = 80) -> list[list[str]]:
        """The endpoints of a service, priority by priority."""
        resource = self.hub.feed.publication[ENDPOINT].get(f"service/{service}/{port}")
        assert resource is not None
        tiers: dict[int, list[str]] = {}
        for group in ClusterLoadAssignment.FromString(resource.body).endpoints:
            for host in group.lb_endpoints:
                address = host.endpoint.address
                name = address.socket_address.address or address.envoy_internal_address.server_listener_name
                tiers.setdefault(group.priority, []).append(name)
        return [sorted(tiers[tier]) for tier in sorted(tiers)]

    def versions(self, type_url: str) -> dict[str, str]:
        return {resource.name: resource.version for resource in self.hub.feed.publication[type_url]}

    def doors(self) -> list[str]:
        """For whom the ingress is open."""
        resource = self.hub.feed.publication[LISTENER].get("ingress")
        assert resource is not None
        return [door.name for door in Listener.FromString(resource.body).filter_chains]

    def published(self, type_url: str, name: str = "shop/echo") -> bytes | None:
        resource = self.hub.offers.publication[type_url].get(name)
        return resource.body if resource else None

    def ready(self) -> tuple[int, int] | None:
        """What was published of shop/echo."""
        body = self.published(CAPACITY)
        if body is None:
            return None
        message = pb.Capacity.FromString(body)
        return sum(z.ready for z in message.zones), sum(z.total for z in message.zones)


def exported(*addresses: str, **rest: object) -> LocalService:
    return msgspec.structs.replace(local(*addresses), export=EXPORTED, **rest)


def serving(world: World) -> World:
    """east offers shop/echo."""
    far = Locality("aws", "eu-west-1", "a")
    east = msgspec.structs.replace(cluster("east"), locality=far)
    world.tell(cluster("here"), east, imported("east"), capacity("east", 2, 2))
    world.hub.become_known()
    return world
