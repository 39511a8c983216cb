"""How much one cluster may have: what is there keeps its place, and what is too much is told so."""

from isthmus_controller.exports.room import MAX_GATEWAYS, MAX_SERVICES, Room
from isthmus_controller.registry import Registry, Wish
from isthmus_controller.store.keys import EndpointsKey, ExportKey, GatewayKey, Keys, SessionKey
from isthmus_controller.store.values import Change
from isthmus_core.names import ClusterId, ServiceName
from isthmus_sync.proto import isthmus_pb2 as pb

KEYS = Keys.of("fed.example")
WEST = ClusterId("west")


def test_services_beyond_the_limit_are_refused_and_changes_of_those_within_are_not() -> None:
    registry = Registry(KEYS)
    first = [ExportKey(ServiceName("shop", f"s{n}"), WEST) for n in range(MAX_SERVICES - 1)]
    registry.apply([Change(KEYS.path(key), b"", 1, 1) for key in first])
    room = Room(registry, WEST)
    last, beyond = ServiceName("shop", "last"), ServiceName("shop", "beyond")
    assert room.refusal(Wish(ExportKey(last, WEST), b"1")) == ""
    assert room.refusal(Wish(EndpointsKey(last, WEST), b"1")) == "", "the same service"
    assert "offers 20000 services" in room.refusal(Wish(ExportKey(beyond, WEST), b"1"))
    assert room.refusal(Wish(EndpointsKey(first[0].service, WEST), b"1")) == ""
    assert room.refusal(Wish(ExportKey(beyond, WEST), None)) == "", "taking back is always possible"
    assert Room(registry, ClusterId("east")).refusal(Wish(ExportKey(beyond, ClusterId("east")), b"1")) == ""


def test_gateways_beyond_the_limit_are_refused() -> None:
    room = Room(Registry(KEYS), WEST)
    said = [room.refusal(Wish(GatewayKey(WEST, f"g{n}"), b"1")) for n in range(MAX_GATEWAYS + 1)]
    assert not any(said[:-1]) and "has 100 gateways" in said[-1]


def test_gateways_that_nobody_is_told_of_have_their_place_too() -> None:
    registry = Registry(KEYS)
    session = pb.Session(held=True).SerializeToString()
    hidden = [SessionKey(WEST, f"hidden{n}") for n in range(MAX_GATEWAYS // 2)]
    registry.apply([Change(KEYS.path(key), session, 1, 1) for key in hidden])
    room = Room(registry, WEST, [f"own{n}" for n in range(MAX_GATEWAYS // 2)])
    assert (
        room.refusal(Wish(GatewayKey(WEST, "own0"), b"1"))
        == room.refusal(Wish(GatewayKey(WEST, "hidden0"), b"1"))
        == ""
    )
    assert "has 100 gateways" in room.refusal(Wish(GatewayKey(WEST, "beyond"), b"1"))
