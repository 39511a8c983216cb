"""A gateway says that it lacks what its cluster exports, or has what the cluster does not, and only when that lasts."""

from isthmus_core.names import ServiceName
from isthmus_gateway.siblings import PATIENCE_S
from isthmus_sync import CAPACITY, EXPORT, EXPORT_STATUS, Update
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.subscriber import Changed
from support.gateway_values import ECHO
from unit.gateway.hub_world import World, exported

CART = ServiceName("shop", "cart")
HERE = "/nowhere"


class Beside(World):
    """A hub that is told what its cluster exports, and looks once a second."""

    def cluster_exports(self, *services: ServiceName) -> None:
        held = self.hub.fleet.resources[EXPORT_STATUS]
        status = {str(s): pb.ExportStatus(schema=1, namespace=s.namespace, name=s.name) for s in services}
        changed = {name: Changed("1", message.SerializeToString()) for name, message in status.items()}
        gone = frozenset(held.keys() - changed.keys())
        self.hub.take_fleet(self.hub.fleet.apply(Update(EXPORT_STATUS, changed, gone, {}, "1", True)))

    def after(self, seconds: float, *, current: bool = True, refused: tuple[ServiceName, ...] = ()) -> str:
        """The warning after so long."""
        for _ in range(int(seconds)):
            self.now += 1.0
            self.hub.compare({(EXPORT, str(name)): "no" for name in refused}, current=current)
        return self.readiness.warnings().get("siblings", "")


def test_what_the_cluster_exports_and_the_folder_does_not_have_is_named_after_a_while() -> None:
    world = Beside()
    world.describe(exported("10.0.0.1"))
    world.cluster_exports(ECHO, CART)
    assert world.after(PATIENCE_S) == "", "files are copied one after the other"
    told = (
        f"{HERE} does not have shop/cart, which this cluster exports. Give all gateways of a cluster the same services"
    )
    assert world.after(1) == f"{told} folder."
    world.cluster_exports(ECHO)
    assert world.after(1) == ""


def test_what_another_gateway_withdrew_is_named_and_what_a_controller_refused_is_not() -> None:
    world = Beside()
    world.describe(exported("10.0.0.1"))
    world.cluster_exports(ECHO)
    world.after(1)
    world.cluster_exports()
    assert world.after(PATIENCE_S) == ""
    assert world.after(1).startswith("another gateway withdrew shop/echo, which /nowhere has.")
    assert world.after(1, refused=(ECHO,)) == ""


def test_nothing_is_found_while_no_controller_is_heard_and_what_was_found_stays() -> None:
    world = Beside()
    world.describe(exported("10.0.0.1"))
    world.cluster_exports(ECHO, CART)
    assert world.after(3 * PATIENCE_S, current=False) == ""
    found = world.after(PATIENCE_S + 1)
    assert "shop/cart" in found and world.after(3, current=False) == found


def test_files_that_come_and_go_for_ever_are_no_difference() -> None:
    world = Beside()
    for turn in range(20):
        world.cluster_exports(ServiceName("shop", f"s{turn}"), ServiceName("shop", f"s{turn + 1}"))
        assert world.after(2) == ""


def test_an_export_that_changes_says_its_capacity_again() -> None:
    world = Beside()
    world.describe(exported("10.0.0.1"))
    world.verdicts("local/echo.shop.svc.clusterset.local:80", True, ("10.0.0.1", 80))
    before = world.published(CAPACITY)
    world.now += 1
    world.describe(exported("10.0.0.1"))
    assert world.published(CAPACITY) == before
    world.describe(exported("10.0.0.1", session_affinity="ClientIP"))
    assert world.published(CAPACITY) != before, "another gateway may have withdrawn both"
    assert world.ready() == (1, 1)


def test_files_that_go_while_the_gateway_stops_are_no_withdrawal() -> None:
    world = World()
    world.describe(exported("10.0.0.1"))
    world.readiness.stop()
    world.describe()
    assert world.published(EXPORT) is not None
