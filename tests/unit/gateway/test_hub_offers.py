"""What the hub tells the federation of its own services: exports, and their capacity as the verdicts have it."""

import msgspec
import pytest

from isthmus_core.dns_mode import ANNOTATION
from isthmus_core.model import CheckKind, ExportSpec, HealthCheck, ServiceType
from isthmus_core.names import ClusterId
from isthmus_gateway.offers import Offers
from isthmus_gateway.resources.names import CLUSTER, ENDPOINT
from isthmus_sync import CAPACITY, EXPORT
from isthmus_sync.proto import isthmus_pb2 as pb
from support.gateway_values import ECHO, local
from unit.gateway.hub_world import EXPORTED, World, exported


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


def test_other_clusters_are_told_of_a_change_before_our_own_envoy() -> None:
    world = World()
    world.describe(exported("10.0.0.1"))
    cluster, assignment = "local/echo.shop.svc.clusterset.local:80", world.versions(ENDPOINT)
    changed = world.hub.offer({ECHO: exported("10.0.0.1", "10.0.0.2")})
    assert changed == {ECHO} and world.versions(ENDPOINT) == assignment
    assert world.hub.offers.capacities[ECHO].total == 2
    world.hub.serve(changed)
    assert world.versions(ENDPOINT)[cluster] != assignment[cluster]


@pytest.mark.parametrize(("network", "told"), [("lan", ["10.0.0.1"]), ("", [])])
def test_addresses_are_told_inside_a_network_only(network: str, told: list[str]) -> None:
    offers = Offers(ClusterId("here"), clock=lambda: 100.0, wall=lambda: 100_000, network=network)
    wish = ExportSpec(annotations={ANNOTATION: "endpoints"})
    check = HealthCheck(CheckKind.NONE)
    offers.describe(ECHO, msgspec.structs.replace(local("10.0.0.1", check=check), export=wish))
    published = offers.publication[CAPACITY].get(str(ECHO))
    assert published is not None
    assert [endpoint.address for endpoint in pb.Capacity.FromString(published.body).endpoints] == told
