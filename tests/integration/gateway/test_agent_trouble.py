"""What a running gateway does when something around it goes wrong."""

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from integration.gateway.zone_feed import following_zone
from isthmus_core.names import ServiceName
from isthmus_gateway.vips import allocate, parse_range
from isthmus_sync import Update
from isthmus_sync.proto import isthmus_pb2 as pb
from support.addresses import LoopbackNet, free_port
from support.fake_controller import FakeController
from support.running_gateway import Backend, Cluster, answered_by, call, cluster, warned
from support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_vip_port_that_is_taken_is_named_and_used_when_it_is_free_and_the_rest_goes_on(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    first = net.next()
    port = free_port(first)
    east.describe(first, port=port)
    echo = ServiceName("shop", "echo")
    vip = allocate([echo], {}, parse_range(east.settings.vip_range)).assigned[echo]
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), vip, 8080)
    try:
        async with controller.serving(), Backend("one", first, port).serving(), east.running():
            await eventually(lambda: warned(east, "envoy resources", "egress/shop/echo/8080"), 20)
            await eventually(east.ready, 10)
            assert [r["name"] for r in (await east.state())["envoy"]["refused"]] == ["egress/shop/echo/8080"]
            taken.close()
            await taken.wait_closed()
            await eventually(lambda: answered_by(vip, "one"), 15)
            await eventually(lambda: nothing_refused(east), 5)  # Envoy listens first, and then says so
    finally:
        taken.close()


async def nothing_refused(where: Cluster) -> bool:
    return (await where.state())["envoy"]["refused"] == []  # type: ignore[no-any-return]


async def test_traffic_does_not_notice_a_controller_that_goes_away_and_changes_flow_soon_after_it_is_back(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    nobody = f"{net.next()}:{free_port()}"
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net, nobody, controller.address)
    first, second = net.next(), net.next()
    port = free_port(first)
    east.describe(first, port=port)
    async with Backend("one", first, port).serving(), Backend("two", second, port).serving(), east.running():
        async with controller.serving():
            await eventually(east.ready, 20)
            vip = await eventually(east.vip, 5)
            await eventually(lambda: answered_by(vip, "one"), 10)
            await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 5)
        await eventually(lambda: warned(east, "controllers", "last known state"), 5)
        assert await call(vip) == "one"
        east.describe(first, second, port=port)
        await asyncio.sleep(1.5)
        assert controller.capacity("east", "shop/echo") == (1, 1)
        loop = asyncio.get_running_loop()
        async with controller.serving():
            back = loop.time()
            await eventually(lambda: controller.capacity("east", "shop/echo") == (2, 2), 10)
            # The cap of 2 s, one attempt in two goes to an address where nobody is, and the machine may be busy.
            assert loop.time() - back < 6
            await eventually(lambda: _current(east), 5)


async def _current(where: Cluster) -> bool:
    told = (await where.state())["controllers"]
    assert told["age_s"] == 0.0, told
    return True


async def test_dns_is_told_nothing_before_the_federation_is_known_and_then_everything(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    east.describe(net.next(), port=1)
    known: dict[str, bytes] = {}

    async def apply(update: Update) -> Mapping[str, str]:
        known.update({name: changed.body for name, changed in update.changed.items()})
        return {}

    async with east.running():
        await eventually(lambda: (east.folder / "zone.sock").exists(), 10)
        async with following_zone(east, apply) as stream:
            await eventually(lambda: warned(east, "controllers", "no controller answers"), 5)
            assert not (await east.ask("/readyz"))["ready"]
            await asyncio.sleep(0.3)
            assert not known and not stream.all_synced
            async with controller.serving():
                await eventually(lambda: "shop/echo" in known and stream.all_synced, 10)
                service = pb.ZoneService.FromString(known["shop/echo"])
                assert list(service.ips) == [await east.vip()]
                header = pb.ZoneHeader.FromString(known["zone"])
                assert header.cluster == "east" and header.serial > 0 and not header.stale


async def test_a_refused_export_is_named(tmp_path: Path, controller: FakeController, net: LoopbackNet) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    east.describe(net.next(), port=1)
    controller.refuse["shop/echo"] = "this namespace is not yours"
    async with controller.serving(), east.running():
        await eventually(lambda: warned(east, "exports", "shop/echo: this namespace is not yours"), 10)
        state = await east.state()
        assert state["controllers"]["refused"]["Export shop/echo"] == "this namespace is not yours"


async def test_a_snapshot_that_is_damaged_is_named_and_the_controller_makes_it_good(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    (east.folder / "snapshot").write_bytes(b"\x00garbage")
    async with east.running():
        await eventually(lambda: warned(east, "snapshot", "Starting without it"), 10)
        async with controller.serving():
            await eventually(east.ready, 15)
            await eventually(lambda: (east.folder / "snapshot").exists(), 5)
    assert (east.folder / "snapshot.unusable").read_bytes() == b"\x00garbage"


async def test_an_envoy_that_dies_is_back_by_itself(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    first = net.next()
    port = free_port(first)
    east.describe(first, port=port)
    async with controller.serving(), Backend("one", first, port).serving(), east.running():
        await eventually(east.ready, 20)
        vip = await eventually(east.vip, 5)
        await eventually(lambda: answered_by(vip, "one"), 10)
        await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 5)
        pid = (await east.state())["envoy"]["pid"]
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: _restarted(east, pid), 10)
        assert "\nisthmus_envoy_restarts_total 1.0\n" in await east.metrics()
        await eventually(lambda: answered_by(vip, "one"), 10)
        await eventually(east.ready, 10)
        assert controller.capacity("east", "shop/echo") == (1, 1)


async def _restarted(where: Cluster, pid: int) -> bool:
    told = await where.state()
    assert told["envoy"]["running"] and told["envoy"]["pid"] != pid, told["envoy"]
    return True
