"""What one part learns, the others are told: the hub without Envoy, files, sockets or a clock."""

import msgspec
import pytest

from isthmus_core.model import AppProtocol, ClusterState
from isthmus_core.names import Locality, ServiceName
from isthmus_gateway.envoy_feed import Refusal
from isthmus_gateway.hub import STUTTER_S, sentence_of
from isthmus_gateway.resources.names import CLUSTER, LISTENER, SECRET
from isthmus_gateway.snapshot import Snapshot
from isthmus_gateway.vips import REMEMBERED
from isthmus_sync import CLUSTER as FLEET
from isthmus_sync import IMPORT, ZONE_HEADER, ZONE_SERVICE, Acked, Nacked, Rejection
from isthmus_sync.proto import isthmus_pb2 as pb
from support.gateway_values import ECHO, HTTP, capacity, cluster, imported, removed
from unit.gateway.hub_world import EAST, World, exported, serving


def test_an_import_gets_an_address_a_way_and_a_name() -> None:
    world = serving(World())
    vip = world.hub.routes.vip(ECHO)
    assert vip is not None and vip.startswith("127.80.0.")
    assert world.targets() == [["tunnel/east"]]
    assert {f"egress/{ECHO}/80", "tunnel/east", "last/east", "ingress"} == world.names(LISTENER)
    zone = world.hub.zone.publication[ZONE_SERVICE].get("shop/echo")
    assert zone is not None and list(pb.ZoneService.FromString(zone.body).ips) == [vip]


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
    assert world.names(LISTENER) == {"ingress", "tunnel/east", "last/east"}
    assert "shop/echo" not in world.hub.zone.publication[ZONE_SERVICE]
    assert ECHO not in world.hub.routes.routes


def test_addresses_of_an_earlier_life_stay_known_until_all_of_the_fleet_is() -> None:
    world = World("127.80.0.0/16")
    gone = {f"ci/s{number}": f"127.80.{number // 250}.{number % 250 + 1}" for number in range(REMEMBERED + 100)}
    world.hub.routes.restore_vips(gone)
    world.tell(cluster("east"), imported("east"))
    assert len(world.hub.routes.vips) == len(gone) + 1
    world.hub.become_known()
    world.hub.take_fleet(world.hub.fleet.apply(removed(IMPORT, "shop/echo")))
    assert len(world.hub.routes.vips) == REMEMBERED


def test_a_dead_cluster_is_left_out_until_one_of_its_gateways_answers() -> None:
    world = serving(World())
    where = (world.hub.fleet.clusters[EAST].gateways[0].address, 15443)
    world.verdicts("gateway/east", False, where)
    assert world.hub.routes.unreachable == {EAST} and world.targets() == [["last/east"]]
    assert "do not answer" in world.hub.routes.routes[ECHO].candidates[0].why
    world.verdicts("gateway/east", True, where)
    assert world.hub.routes.unreachable == set() and world.targets() == [["tunnel/east"]]


def test_a_cluster_that_died_a_moment_ago_may_be_back_in_another() -> None:
    world = serving(World())
    web = msgspec.structs.replace(HTTP, app_protocol=AppProtocol.HTTP)
    world.describe(exported("10.0.0.1", ports=(web,)))
    world.tell(imported("east", "here", port=web), version="2")
    world.verdicts(f"local/{ECHO.authority(80)}", True, ("10.0.0.1", 80))
    where = (world.hub.fleet.clusters[EAST].gateways[0].address, 15443)
    world.verdicts("gateway/east", False, where)
    assert world.targets() == [["10.0.0.1", "last/east"]]
    world.now += STUTTER_S - 0.1
    world.hub.lose_hope()
    world.settle()
    assert world.targets() == [["10.0.0.1", "last/east"]]
    world.now += 0.2
    world.hub.lose_hope()
    world.settle()
    assert world.targets() == [["10.0.0.1"]] and world.hub.routes.unreachable == {EAST}
    world.verdicts("gateway/east", True, where)
    world.hub.lose_hope()
    world.settle()
    assert world.targets() == [["10.0.0.1"], ["tunnel/east"], ["last/east"]]


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


def test_the_ingress_is_open_for_the_other_clusters_that_are_members_now() -> None:
    world = World()
    assert world.doors() == ["nobody"]
    serving(world)
    assert world.doors() == ["isthmus/east"]
    world.tell(cluster("here"), cluster("east", address="127.51.9.8"), version="2")
    before = world.versions(LISTENER)["ingress"]
    world.tell(cluster("west"), version="3")
    assert world.doors() == ["isthmus/east", "isthmus/west"]
    assert {"peer/east", "peer/west"} <= world.names(SECRET)
    world.hub.take_fleet(world.hub.fleet.apply(removed(FLEET, "west")))
    assert world.doors() == ["isthmus/east"] and "peer/west" not in world.names(SECRET)
    assert world.versions(LISTENER)["ingress"] == before
    reborn = World()
    reborn.hub.restore(world.hub.snapshot(0.0, {}))
    assert reborn.versions(LISTENER)["ingress"] == before


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


def test_a_snapshot_of_which_something_cannot_be_used_is_not_taken_for_the_whole_federation() -> None:
    world = serving(World())
    kept = world.hub.snapshot(0.0, {})
    broken = {name: (version, b"\xff\xff") for name, (version, _) in kept.resources[IMPORT].items()}
    reborn = World()
    refused = reborn.hub.restore(msgspec.structs.replace(kept, resources={**kept.resources, IMPORT: broken}))
    assert list(refused) == [str(ECHO)]
    assert not reborn.hub.known and not reborn.readiness.ready
    # Envoy and DNS keep what they have until a controller answers.
    assert not reborn.hub.zone.publication[ZONE_HEADER].synced and not reborn.hub.feed.publication[CLUSTER].synced
    reborn.tell(cluster("east"), imported("east"), capacity("east"), version="2")
    reborn.hub.become_known()
    assert reborn.hub.routes.vip(ECHO) == world.hub.routes.vip(ECHO) and reborn.readiness.ready


def test_an_empty_snapshot_is_a_known_empty_federation() -> None:
    world = World()
    world.hub.restore(Snapshot(cluster="here"))
    assert world.hub.zone.publication[ZONE_HEADER].synced and world.hub.routes.routes == {}


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
