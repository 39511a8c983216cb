"""The distance to a gateway is what the kernel measured, and nobody there is no distance."""

import socket

import pytest

from isthmus_core.names import ClusterId
from isthmus_gateway.distance import distances, round_trip_ms
from support.addresses import free_port

EAST, WEST = ClusterId("east"), ClusterId("west")

pytestmark = pytest.mark.anyio


async def test_a_gateway_near_by_is_less_than_a_millisecond_or_two_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        took = await round_trip_ms("127.0.0.1", listener.getsockname()[1])
    assert took is not None and 0 < took < 20


async def test_only_clusters_where_somebody_accepts_have_a_distance() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        closed = ("127.0.0.1", free_port())
        found = await distances({EAST: [closed, ("127.0.0.1", port)], WEST: [closed]})
    assert set(found) == {EAST}
