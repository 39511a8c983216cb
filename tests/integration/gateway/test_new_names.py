"""A name that DNS tells leads to an address where Envoy listens."""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from integration.gateway.zone_feed import following_zone
from isthmus_gateway.zone_feed import HOLD_S
from isthmus_sync import ZONE_SERVICE, Update
from isthmus_sync.proto import isthmus_pb2 as pb
from support.addresses import LoopbackNet
from support.fake_controller import FakeController
from support.running_gateway import ECHO, EXPORT, cluster
from support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_whoever_is_told_a_new_name_can_connect_at_once(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net)
    found: dict[str, str] = {}
    took: list[float] = []

    async def apply(update: Update) -> Mapping[str, str]:
        for name, changed in update.changed.items() if update.type_url == ZONE_SERVICE else ():
            service = pb.ZoneService.FromString(changed.body)
            if name not in found:
                try:
                    _, writer = await asyncio.open_connection(service.ips[0], service.ports[0].port)
                    found[name] = "connected"
                    writer.close()
                except OSError as error:
                    found[name] = str(error)
        return {}

    async with controller.serving(), east.running():
        await eventually(east.ready, 20)
        async with following_zone(east, apply) as stream:
            await eventually(lambda: stream.all_synced, 10)
            for number in range(10):
                described = ECHO.format(port=1, endpoints="{address: 127.0.0.1}") + EXPORT
                aside = east.services / f".n{number}.yaml"
                aside.write_text(described.replace("echo", f"n{number}"))
                aside.rename(east.services / f"n{number}.yaml")
                begun = asyncio.get_running_loop().time()
                await eventually(partial(found.__contains__, f"shop/n{number}"), 5)
                took.append(asyncio.get_running_loop().time() - begun)
    assert min(took) < HOLD_S / 2, "Envoy's word counts, not the deadline"
    assert found == {f"shop/n{number}": "connected" for number in range(10)}
