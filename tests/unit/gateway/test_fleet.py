"""What an update of the registry touches, and nothing else."""

from isthmus_core.model import ClusterState, ServiceType
from isthmus_core.names import ClusterId, ServiceName
from isthmus_gateway.fleet import FleetTable
from isthmus_sync import CAPACITY, CLUSTER, IMPORT, Changed, Update
from support.gateway_values import ECHO, capacity, cluster, imported, removed, resource, told

CART = ServiceName("shop", "cart")


def table() -> FleetTable:
    fleet = FleetTable()
    for update in told(cluster("east"), cluster("west"), imported("east", "west"), imported("west", service=CART)):
        fleet.apply(update)
    return fleet


def test_a_capacity_touches_its_service_alone() -> None:
    fleet = table()
    touched = fleet.apply(told(capacity("east", 2, 3))[0])
    assert touched.services == {ECHO} and not touched.imports and not touched.clusters
    assert fleet.capacities[ECHO][ClusterId("east")].ready == 2


def test_the_echo_of_our_own_capacity_touches_nothing_after_the_first() -> None:
    fleet = FleetTable(ClusterId("east"))
    assert fleet.apply(told(capacity("east", 2, 3))[0]).services == {ECHO}
    assert not fleet.apply(told(capacity("east", 1, 3))[0]).services
    assert fleet.capacities[ECHO][ClusterId("east")].ready == 1
    assert fleet.apply(told(capacity("west", 1, 3))[0]).services == {ECHO}


def test_addresses_are_looked_at_when_an_import_comes_goes_or_changes_its_type() -> None:
    fleet = table()
    assert not fleet.apply(told(imported("west"))[0]).imports
    assert fleet.apply(told(imported("west", kind=ServiceType.HEADLESS))[0]).imports


def test_a_drained_cluster_touches_every_service_behind_which_it_stands() -> None:
    touched = table().apply(told(cluster("east", ClusterState.DRAINING))[0])
    assert touched.services == {ECHO} and touched.clusters == {"east"}
    assert table().apply(told(cluster("west", held=False))[0]).services == {ECHO, CART}


def test_a_new_gateway_address_touches_the_cluster_and_no_service() -> None:
    touched = table().apply(told(cluster("east", address="127.51.9.8"))[0])
    assert touched.clusters == {"east"} and not touched.services


def test_an_import_that_loses_an_exporter_is_not_touched_by_it_any_more() -> None:
    fleet = table()
    assert fleet.apply(told(imported("west"))[0]).services == {ECHO}
    assert not fleet.apply(told(cluster("east", ClusterState.DRAINING))[0]).services


def test_what_is_removed_is_gone() -> None:
    fleet = table()
    fleet.apply(told(capacity("east"))[0])
    assert fleet.apply(removed(CAPACITY, f"{ECHO}/east")).services == {ECHO}
    assert fleet.apply(removed(IMPORT, str(CART))).imports
    assert fleet.apply(removed(CLUSTER, "west")).services == {ECHO}
    assert (set(fleet.clusters), set(fleet.imports), fleet.capacities) == ({"east"}, {ECHO}, {})
    assert not fleet.apply(removed(IMPORT, "never/known")).services


def test_a_bad_resource_is_refused_by_itself_and_its_last_good_state_stays() -> None:
    fleet = table()
    _, name, good = resource(cluster("south"))
    changed = {
        "east": Changed("2", b"\xff\xff"),
        "west": Changed("2", resource(cluster("east"))[2]),
        name: Changed("2", good),
    }
    touched = fleet.apply(Update(CLUSTER, changed, frozenset(), {}, "n", True))
    assert set(touched.rejected) == {"east", "west"} and touched.clusters == {"south"}
    assert "speaks of 'east'" in touched.rejected["west"]
    assert fleet.clusters[ClusterId("west")] == cluster("west")
    assert fleet.versions()[CLUSTER] == {"east": "1", "west": "1", "south": "2"}


def test_a_fleet_restored_from_a_snapshot_is_the_same() -> None:
    fleet, other = table(), FleetTable()
    kept = {kind: {n: (c.version, c.body) for n, c in names.items()} for kind, names in fleet.resources.items()}
    touched = other.restore(kept)
    assert (other.clusters, other.imports) == (fleet.clusters, fleet.imports)
    assert other.versions() == fleet.versions() and touched.services == {ECHO, CART} and touched.imports
