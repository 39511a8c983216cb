"""What the hub tells the DNS server: names that are listened to, endpoints that are well, and how old it all is."""

import msgspec

from isthmus_core.dns_mode import ANNOTATION
from isthmus_core.model import ExportSpec, ServicePort, ServiceType
from isthmus_core.names import ServiceName
from isthmus_gateway.resources.names import CLUSTER, LISTENER
from isthmus_sync import CAPACITY, IMPORT, ZONE_HEADER, ZONE_SERVICE, Acked
from isthmus_sync.proto import isthmus_pb2 as pb
from support.gateway_values import ECHO, capacity, cluster, imported, local, removed
from unit.gateway.hub_world import World, serving


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


def test_nothing_waits_for_envoy_before_the_federation_is_known() -> None:
    world = World()
    world.hub.zone.envoy_came()
    world.tell(cluster("here"), cluster("east"), imported("east"), capacity("east", 2, 2))
    assert str(ECHO) in world.hub.zone.publication[ZONE_SERVICE] and not world.hub.zone.holding
