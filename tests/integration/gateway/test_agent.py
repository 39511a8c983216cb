"""Whole gateways: the agent with a real Envoy, real streams to a controller, real files and real backends."""

import asyncio
from pathlib import Path

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_gateway.agent import run_gateway
from support.addresses import LoopbackNet, free_port
from support.fake_controller import FakeController
from support.running_gateway import Backend, answered_by, call, cluster, endpoints_are, warned
from support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_service_of_one_cluster_answers_in_another_and_follows_its_files_health_and_end(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    west = cluster("west", "gcp/us-east1/b", tmp_path, controller, net)
    first, second = net.next(), net.next()
    port = free_port(first)
    one, two = Backend("one", first, port), Backend("two", second, port)
    east.describe(first, port=port)
    async with controller.serving(), one.serving(), two.serving(), west.running():
        async with east.running():
            await eventually(east.ready, 20)
            await eventually(west.ready, 20)
            await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 10)
            vip = await eventually(west.vip, 5)
            await eventually(lambda: answered_by(vip, "one"), 10)

            # A changed file moves new connections; those that stand go on until their endpoint closes them.
            east.describe(second, port=port)
            await eventually(lambda: endpoints_are(east, second), 5)
            one.leave()
            await eventually(lambda: answered_by(vip, "two"), 5)
            east.describe(first, port=port)
            await eventually(lambda: endpoints_are(east, first), 5)
            two.leave()
            await eventually(lambda: answered_by(vip, "one"), 5)

            # A sick endpoint is published as such.
            one.sick = True
            await eventually(lambda: controller.capacity("east", "shop/echo") == (0, 1), 5)
            one.sick = False
            await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 5)
            await eventually(lambda: answered_by(vip, "one"), 5)

            # A broken file changes nothing and is named.
            (east.services / "shop.yaml").write_text("kind: [")
            await eventually(lambda: warned(east, "files", "shop.yaml"), 5)
            assert await call(vip) == "one"
        # A clean stop takes the gateway out, and nothing else.
        assert controller.gateways("east") == ()
        assert controller.capacity("east", "shop/echo") == (1, 1)
        assert await call(vip) != "one"


async def test_a_gateway_serves_from_its_snapshot_while_no_controller_answers(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    first = net.next()
    port = free_port(first)
    east.describe(first, port=port)
    async with Backend("one", first, port).serving():
        async with controller.serving(), east.running():
            await eventually(east.ready, 20)
            vip = await eventually(east.vip, 5)
            await eventually(lambda: answered_by(vip, "one"), 5)
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with east.running():
            await eventually(lambda: answered_by(vip, "one"), 10)
            took = loop.time() - start
            assert await east.vip() == vip
            await eventually(lambda: warned(east, "controllers", "last known state"), 5)
            await eventually(east.ready, 5)
            assert (await east.state())["controllers"]["age_s"] > 0
            assert took < 5, took  # 0.9 s, and 2.2 s beside two busy loops


async def test_capacity_of_a_restarted_gateway_never_dips(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    first = net.next()
    port = free_port(first)
    east.describe(first, port=port)
    async with Backend("one", first, port).serving(), controller.serving():
        async with east.running():
            await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 20)
        seen: set[object] = set()

        async def watch() -> None:
            while True:
                seen.add(controller.capacity("east", "shop/echo"))
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch(), name="watch")
            async with east.running():
                await eventually(east.ready, 20)
                await eventually(lambda: len(controller.gateways("east")) == 1, 5)
                await asyncio.sleep(1.5)
            watcher.cancel()
        assert seen == {(1, 1)}
    assert ("-Export", "shop/echo") not in controller.log


async def test_a_port_that_is_in_use_is_one_clear_sentence(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    server = await asyncio.start_server(lambda r, w: None, east.settings.listen_address, east.settings.listen_port)
    try:
        with pytest.raises(InvalidInput, match="Another process listens there"):
            await run_gateway(east.settings, asyncio.Event())
    finally:
        server.close()


async def test_a_second_gateway_in_the_same_folder_is_refused(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    async with east.running():
        await eventually(lambda: (east.folder / "agent.sock").exists(), 10)
        with pytest.raises(InvalidInput, match="another gateway runs"):
            await run_gateway(east.settings, asyncio.Event())
