"""What one part learns, the others are told: the hub without Envoy, files, sockets or a clock."""

from pathlib import Path

import msgspec
import pytest
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from isthmus_core.dns_mode import ANNOTATION
from isthmus_core.model import ClusterState, ExportSpec, LocalService, ServicePort, ServiceType
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_gateway.envoy import Verdict
from isthmus_gateway.envoy_feed import Refusal
from isthmus_gateway.hub import Hub, sentence_of
from isthmus_gateway.membership import Membership
from isthmus_gateway.resources.names import CLUSTER, ENDPOINT, LISTENER
from isthmus_gateway.settings import GatewaySettings
from isthmus_gateway.snapshot import Snapshot
from isthmus_kit.readiness import Readiness
from isthmus_sync import CAPACITY, EXPORT, IMPORT, ZONE_HEADER, ZONE_SERVICE, Acked, Nacked, Rejection
from isthmus_sync.proto import isthmus_pb2 as pb
from support.gateway_values import BERLIN, ECHO, capacity, cluster, imported, local, removed, told

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


def test_an_import_gets_an_address_a_way_and_a_name() -> None:
    world = serving(World())
    vip = world.hub.routes.vip(ECHO)
    assert vip is not None and vip.startswith("127.80.0.")
    assert world.targets() == [["tunnel/east"]]
    assert {f"egress/{ECHO}/80", "tunnel/east", "ingress"} == world.names(LISTENER)
    zone = world.hub.zone.publication[ZONE_SERVICE].get("shop/echo")
    assert zone is not None and list(pb.ZoneService.FromString(zone.body).ips) == [vip]


def test_a_new_name_waits_until_envoy_listens_there() -> None:
    world = serving(World())
    world.hub.zone.envoy_came()
    names = world.hub.zone.publication[ZONE_SERVICE]
    new = ServiceName("shop", "new")
    world.tell(imported("east", service=new))
    assert str(new) not in names and str(ECHO) in names
    serial = world.hub.zone.serial
    listeners = {name: version for name, version in world.versions(LISTENER).items() if name.startswith("egress/")}
    world.hub.envoy_took(Acked(CLUSTER, listeners, ()))
    world.hub.envoy_took(Acked(LISTENER, {f"egress/{ECHO}/80": "1"}, ()))
    assert str(new) not in names and world.hub.zone.serial == serial
    world.tell(capacity("east", 1, 2, service=new), version="2")
    assert str(new) not in names
    world.hub.envoy_took(Acked(LISTENER, listeners, ()))
    held = names.get(str(new))
    assert held is not None and world.hub.zone.serial > serial
    assert pb.ZoneService.FromString(held.body).provenance[0].cluster == "east", "the newest of what was held"
    assert not world.hub.zone.holding
    world.hub.take_fleet(world.hub.fleet.apply(removed(IMPORT, str(new))))
    world.settle()
    world.tell(imported("east", service=new), version="3")
    assert str(new) in names, "Envoy has not even heard that it was gone"


def test_a_new_name_waits_a_second_at_most_and_not_at_all_without_envoy() -> None:
    world = serving(World())
    world.tell(imported("east", service=ServiceName("shop", "early")))
    names = world.hub.zone.publication[ZONE_SERVICE]
    assert "shop/early" in names, "Envoy is away"
    world.hub.zone.envoy_came()
    world.tell(imported("east", service=ServiceName("shop", "refused")))
    world.now += 0.9
    world.hub.release_names()
    assert "shop/refused" not in names
    world.now += 0.2
    world.hub.release_names()
    assert "shop/refused" in names
    world.tell(imported("east", service=ServiceName("shop", "late")))
    assert "shop/late" not in names
    world.hub.envoy_went()
    assert "shop/late" in names
    world.hub.zone.envoy_came()
    world.tell(imported("east", service=ServiceName("shop", "gone")))
    world.hub.take_fleet(world.hub.fleet.apply(removed(IMPORT, "shop/gone")))
    world.settle()
    world.now += 2
    world.hub.release_names()
    assert "shop/gone" not in names


def test_what_is_known_changes_at_once_and_a_headless_service_waits_for_nobody() -> None:
    world = serving(World())
    world.hub.zone.envoy_came()
    names = world.hub.zone.publication[ZONE_SERVICE]
    before = names.get(str(ECHO))
    ports = (ServicePort("http", 80), ServicePort("admin", 81))
    world.tell(msgspec.structs.replace(imported("east"), ports=ports), version="2")
    after = names.get(str(ECHO))
    assert before is not None and after is not None and after.version != before.version
    headless = msgspec.structs.replace(imported("east", service=ServiceName("shop", "db")), type=ServiceType.HEADLESS)
    world.tell(headless)
    assert "shop/db" in names


def test_nobody_is_told_before_the_fleet_is_known() -> None:
    world = World()
    world.tell(cluster("east"), imported("east"))
    assert not world.hub.feed.publication[CLUSTER].synced and not world.hub.zone.publication[ZONE_SERVICE].synced
    assert world.readiness.missing()
    world.hub.become_known()
    assert world.hub.feed.publication[CLUSTER].synced and world.hub.zone.publication[ZONE_HEADER].synced
    assert world.readiness.ready


def test_a_capacity_changes_one_assignment_and_nothing_else() -> None:
    world = serving(World())
    clusters, listeners, serial = world.versions(CLUSTER), world.versions(LISTENER), world.hub.zone.serial
    world.tell(capacity("east", 1, 2), version="2")
    assert (world.versions(CLUSTER), world.versions(LISTENER)) == (clusters, listeners)
    assert world.hub.routes.routes[ECHO].candidates[0].ready == 1
    # The capacity is no part of what DNS answers.
    assert world.hub.zone.serial == serial


def test_own_endpoints_come_first_and_the_tunnel_is_the_next_tier() -> None:
    world = serving(World())
    world.describe(exported("10.0.0.1"))
    world.tell(imported("east", "here"), version="2")
    assert world.targets() == [["10.0.0.1"], ["tunnel/east"]]
    world.describe(exported("10.0.0.2"))
    assert world.targets() == [["10.0.0.2"], ["tunnel/east"]]


def test_a_service_that_is_exported_by_nobody_any_more_is_gone_everywhere() -> None:
    world = serving(World())
    world.hub.take_fleet(world.hub.fleet.apply(removed(IMPORT, "shop/echo")))
    world.settle()
    assert world.names(LISTENER) == {"ingress", "tunnel/east"}
    assert "shop/echo" not in world.hub.zone.publication[ZONE_SERVICE]
    assert ECHO not in world.hub.routes.routes


def test_a_dead_cluster_is_left_out_until_one_of_its_gateways_answers() -> None:
    world = serving(World())
    where = (world.hub.fleet.clusters[EAST].gateways[0].address, 15443)
    world.verdicts("gateway/east", False, where)
    assert world.hub.routes.unreachable == {EAST} and world.targets() == []
    assert "do not answer" in world.hub.routes.routes[ECHO].candidates[0].why
    world.verdicts("gateway/east", True, where)
    assert world.hub.routes.unreachable == set() and world.targets() == [["tunnel/east"]]


def test_one_living_gateway_keeps_a_cluster_reachable() -> None:
    world = serving(World())
    world.verdicts("gateway/east", True, ("127.51.9.9", 15443))
    world.verdicts("gateway/east", False, ("127.51.9.8", 15443))
    assert not world.hub.routes.unreachable


def test_a_verdict_on_a_gateway_that_is_gone_counts_no_more() -> None:
    world = serving(World())
    world.verdicts("gateway/east", False, ("127.51.9.9", 15443))
    moved = msgspec.structs.replace(cluster("east", address="127.51.9.8"), locality=Locality("aws", "eu-west-1", "a"))
    world.tell(moved, version="2")
    assert not world.hub.routes.unreachable and world.targets() == [["tunnel/east"]]


def test_a_drained_cluster_gets_no_traffic() -> None:
    world = serving(World())
    world.tell(msgspec.structs.replace(cluster("east"), state=ClusterState.DRAINING), version="2")
    assert world.targets() == []


def test_an_export_is_published_and_its_capacity_follows_each_verdict() -> None:
    world = World()
    world.describe(exported("10.0.0.1", "10.0.0.2"))
    assert pb.Export.FromString(world.published(EXPORT) or b"").name == "echo"
    assert world.ready() is None, "nobody has looked yet"
    name = "local/echo.shop.svc.clusterset.local:80"
    assert name in world.names(CLUSTER)
    world.verdicts(name, True, ("10.0.0.1", 80), ("10.0.0.2", 80))
    assert world.ready() == (2, 2)
    world.verdicts(name, False, ("10.0.0.1", 80))
    assert world.ready() == (1, 2)
    world.describe(local("10.0.0.1"))
    assert world.published(EXPORT) is None and world.ready() is None and name not in world.names(CLUSTER)


def test_a_changed_endpoint_of_an_export_leaves_the_cluster_around_it_alone() -> None:
    world = World()
    world.describe(exported("10.0.0.1"))
    before = world.versions(CLUSTER)
    world.describe(exported("10.0.0.2"))
    assert world.versions(CLUSTER) == before
    resource = world.hub.feed.publication[ENDPOINT].get("local/echo.shop.svc.clusterset.local:80")
    assert resource is not None and b"10.0.0.2" in resource.body


def test_capacities_wait_for_the_first_verdicts_but_not_for_ever() -> None:
    world = World()
    world.describe(exported("10.0.0.1"))
    world.hub.offers.mark_described()
    world.now += 5
    world.hub.offers.look()
    assert world.ready() is None, "Envoy does not even run"
    assert not world.hub.offers.publication[CAPACITY].synced, "the registry keeps what it has"
    world.hub.offers.envoy_serves()
    world.now += 0.5
    world.hub.offers.look()
    assert world.ready() is None
    world.now += 0.6
    world.hub.offers.look()
    assert world.ready() == (0, 1) and world.hub.offers.publication[CAPACITY].synced
    assert not world.hub.offers.waiting


def test_endpoints_that_are_all_exchanged_do_not_look_dead_meanwhile() -> None:
    world = World()
    name = "local/echo.shop.svc.clusterset.local:80"
    world.hub.offers.envoy_serves()
    world.describe(exported("10.0.0.1"))
    world.verdicts(name, True, ("10.0.0.1", 80))
    world.describe(exported("10.0.0.2"))
    assert world.ready() == (1, 1)
    world.verdicts(name, False, ("10.0.0.2", 80))
    assert world.ready() == (0, 1)


def test_a_service_without_checks_is_published_at_once() -> None:
    world = World()
    headless = msgspec.structs.replace(local("10.0.0.1", kind=ServiceType.HEADLESS), export=EXPORTED)
    world.describe(headless)
    assert world.ready() == (1, 1)
    assert [e.address for e in pb.Capacity.FromString(world.published(CAPACITY) or b"").endpoints] == ["10.0.0.1"]


def test_services_without_an_address_left_are_named() -> None:
    world = World("127.80.0.0/30")
    services = [imported("east", service=ServiceName("shop", f"s{n}")) for n in range(9)]
    world.tell(cluster("east"), *services)
    assert "no address is left in 127.80.0.0/30 for" in world.readiness.warnings()["vips"]
    assert "and 2 more" in world.readiness.warnings()["vips"]
    assert len(world.hub.routes.exhausted) == 7


def test_a_reborn_gateway_knows_what_the_last_one_knew() -> None:
    world = serving(World())
    kept = world.hub.snapshot(2.0, {})
    assert kept.saved_at_ms == 98_000
    reborn = World()
    reborn.hub.restore(kept)
    assert reborn.hub.routes.vip(ECHO) == world.hub.routes.vip(ECHO)
    assert reborn.targets() == world.targets()
    assert reborn.hub.zone.serial > kept.zone_serial or reborn.hub.zone.serial == kept.zone_serial + 1
    assert reborn.readiness.ready


def test_an_empty_snapshot_is_a_known_empty_federation() -> None:
    world = World()
    world.hub.restore(Snapshot(cluster="here"))
    assert world.hub.zone.publication[ZONE_HEADER].synced and world.hub.routes.routes == {}


def test_the_zone_says_when_its_knowledge_is_too_old() -> None:
    world = serving(World())

    def header() -> pb.ZoneHeader:
        resource = world.hub.zone.publication[ZONE_HEADER].get("zone")
        assert resource is not None
        return pb.ZoneHeader.FromString(resource.body)

    world.hub.confirm(0.0, 60)
    assert not header().stale and header().confirmed
    serial = header().serial
    world.hub.confirm(0.0, 60)
    assert header().serial == serial
    world.hub.confirm(5.0, 60)
    assert not header().stale and not header().confirmed
    assert (header().synced_at_ms, header().serial) == (95_000, serial + 1)
    world.hub.confirm(61.0, 60)
    assert header().stale and header().serial == serial + 2
    world.hub.confirm(None, 60)
    assert header().serial == serial + 2


def test_a_service_answered_with_endpoints_follows_their_health_and_tells_no_other_network() -> None:
    world = serving(World())
    asked = {ANNOTATION: "endpoints"}
    service = msgspec.structs.replace(local("10.0.0.1", "10.0.0.2"), export=ExportSpec(annotations=asked))
    world.describe(service)
    world.tell(msgspec.structs.replace(imported("here", "east"), annotations=asked), version="2")

    def answer() -> list[str]:
        resource = world.hub.zone.publication[ZONE_SERVICE].get(str(ECHO))
        assert resource is not None
        return [host.address for host in pb.ZoneService.FromString(resource.body).hosts]

    world.verdicts(f"local/{ECHO.authority(80)}", True, ("10.0.0.1", 80), ("10.0.0.2", 80))
    assert answer() == ["10.0.0.1", "10.0.0.2"]
    world.verdicts(f"local/{ECHO.authority(80)}", False, ("10.0.0.1", 80))
    assert answer() == ["10.0.0.2"]
    published = world.hub.offers.publication[CAPACITY].get(str(ECHO))
    assert published is not None and not pb.Capacity.FromString(published.body).endpoints


def test_a_far_cluster_that_never_answered_gets_more_time_for_its_probe() -> None:
    world = serving(World())
    before = world.versions(CLUSTER)["gateway/east"]
    world.hub.be_patient({EAST: 120.0})
    assert world.versions(CLUSTER)["gateway/east"] == before, "nobody has looked yet"
    world.verdicts("gateway/east", False, ("127.51.9.9", 15443))
    world.hub.be_patient({EAST: 120.0})
    assert world.hub.remotes.probe_ms(EAST) == 500
    assert world.versions(CLUSTER)["gateway/east"] != before


def test_what_envoy_refuses_is_named_offered_again_and_forgotten_when_it_is_taken() -> None:
    world = serving(World())
    name = f"egress/{ECHO}/80"
    version = world.versions(LISTENER)[name]
    refusal = Nacked(LISTENER, {name: Rejection(version, "cannot bind")}, {}, (), (), "cannot bind")
    world.hub.feed.on_nacked(refusal)
    assert sentence_of(world.hub.feed.refusals) == f"Envoy refuses {name}: cannot bind"
    world.hub.feed.retry_refused()
    again = world.versions(LISTENER)[name]
    assert again != version
    world.hub.feed.on_acked(Acked(LISTENER, {name: again}, ()))
    assert world.hub.feed.refusals == () and len(world.refusals) == 2
    world.hub.feed.on_nacked(refusal)
    world.hub.take_fleet(world.hub.fleet.apply(removed(IMPORT, "shop/echo")))
    world.settle()
    assert world.hub.feed.refusals == (), "what is withdrawn is refused no more"


def test_one_event_is_one_change_for_those_who_follow() -> None:
    world = serving(World())
    before = world.hub.feed.publication.changes, world.hub.offers.publication.changes
    world.hub.take_services({name: exported("10.0.0.1", service=name) for name in _many(20)})
    assert world.hub.feed.publication.changes - before[0] == 1
    assert world.hub.offers.publication.changes - before[1] == 1


def _many(count: int) -> list[ServiceName]:
    return [ServiceName("shop", f"s{n}") for n in range(count)]


def test_a_verdict_on_something_that_is_not_ours_changes_nothing() -> None:
    world = serving(World())
    world.verdicts("xds", False, ("127.0.0.1", 1))
    world.verdicts("gateway/nobody", False, ("127.0.0.1", 1))
    world.verdicts("local/nobody.shop.svc.clusterset.local:80", False, ("127.0.0.1", 1))
    assert not world.hub.routes.unreachable and world.hub.offers.capacities == {}


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (
            "Error adding/updating listener(s) egress/a/b/80: cannot bind '127.80.0.1:80': Address already in use\n",
            (
                "egress/a/b/80: cannot bind '127.80.0.1:80': Address already in use. "
                "End what listens there; it is tried again every few seconds."
            ),
        ),
        (
            "cannot bind '203.0.113.1:80': Cannot assign requested address",
            (
                "egress/a/b/80: cannot bind '203.0.113.1:80': Cannot assign requested address. "
                "Give this machine the addresses of --vip-range, or choose another range."
            ),
        ),
    ],
)
def test_a_port_that_envoy_cannot_have_is_named_with_its_mend(reason: str, sentence: str) -> None:
    assert sentence_of((Refusal("Listener", "egress/a/b/80", reason),)) == f"Envoy refuses {sentence}"
