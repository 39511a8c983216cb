"""A gateway that stutters looks dead for a while; requests that nobody else can answer wait for it."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from integration.envoy.far_service import FAR
from isthmus_core.model import LocalService
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair, service_of
from support.open_load import open_load
from support.waiting import eventually

RATE = 40
STUTTER_S = 0.8
EJECTED_S = 0.2
"""Five bad answers in a row, which two requests are, and the same."""
FOUND_S = 0.5
"""Two checks of the only endpoint, 0.1 s apart, and the same."""


@asynccontextmanager
async def stuttering(pair: Pair) -> AsyncIterator[None]:
    """Cluster b's Envoy stands still until the probes of a have found it dead, and some time longer."""
    with pair.b.frozen():
        await eventually(lambda: not any(pair.a.verdict("gateway/b")), 20)
        await asyncio.sleep(STUTTER_S)
        yield


async def told(pair: Pair, far: LocalService, own: LocalService | None) -> None:
    """Cluster b offers `far`, and cluster a imports it."""
    pair.b.export(far)
    pair.a.serve(pair.vip, own, [("b", far)])
    await pair.a.serving("egress/shop/echo/8080")


@pytest.mark.anyio
async def test_a_service_that_only_a_stuttering_cluster_has_waits_for_it(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")
    with backend:
        async with pair.running():
            await told(pair, service_of("echo", [where], locality=FAR), None)
            async with open_load(pair.vip, 8080, RATE, 3.0) as load, stuttering(pair):
                pass
    assert load.lost("far") == 0, load.outcomes


@pytest.mark.anyio
async def test_what_fails_at_home_waits_for_a_stuttering_cluster(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    near, near_at = pair.backend("near")
    other, other_at = pair.backend("near")
    far, far_at = pair.backend("far")
    with near, other, far:
        async with pair.running():
            await told(pair, service_of("echo", [far_at], locality=FAR), service_of("echo", [near_at, other_at]))
            async with open_load(pair.vip, 8080, RATE, 3.0) as load, stuttering(pair):
                os.kill(near.pid, signal.SIGKILL)
                os.kill(other.pid, signal.SIGKILL)
    assert load.outcomes["far"] and load.lost("near", "far") <= 1, load.outcomes


@pytest.mark.anyio
async def test_a_check_that_finds_everybody_sick_opens_the_last_resort(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    near, near_at = pair.backend("near")
    far, far_at = pair.backend("far")
    with near, far:
        async with pair.running():
            own = service_of("echo", [near_at])
            pair.a.export(own)
            await told(pair, service_of("echo", [far_at], locality=FAR), own)
            async with open_load(pair.vip, 8080, RATE, 4.0) as load, stuttering(pair):
                os.kill(near.pid, signal.SIGKILL)
                await asyncio.sleep(STUTTER_S)
    assert load.outcomes["far"] and load.lost("near", "far") <= RATE * FOUND_S, load.outcomes


@asynccontextmanager
async def one_near_endpoint(folder: Path, net: LoopbackNet) -> AsyncIterator[tuple[Pair, Path]]:
    """A service with one endpoint here, which answers 503 while the file exists, and one in cluster b."""
    pair = Pair(folder, net)
    sick = folder / "sick"
    near, near_at = pair.backend("near", sick=sick)
    far, far_at = pair.backend("far")
    with near, far:
        async with pair.running():
            await told(pair, service_of("echo", [far_at], locality=FAR), service_of("echo", [near_at]))
            yield pair, sick


@pytest.mark.anyio
async def test_what_the_only_endpoint_at_home_answers_badly_waits_for_a_stuttering_cluster(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    async with (
        one_near_endpoint(tmp_path, loopback_net) as (pair, sick),
        open_load(pair.vip, 8080, RATE, 3.0) as load,
        stuttering(pair),
    ):
        sick.touch()
        await asyncio.sleep(STUTTER_S)
    assert load.outcomes["far"] and load.lost("near", "far") <= RATE * EJECTED_S, load.outcomes


@pytest.mark.anyio
async def test_the_only_endpoint_is_not_left_for_a_cluster_that_is_gone(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    async with one_near_endpoint(tmp_path, loopback_net) as (pair, sick), stuttering(pair):

        async def ejected() -> bool:
            _, state = await pair.a.admin._ask("GET", "/clusters?filter=service/")
            return b"/failed_outlier_check" in state

        sick.touch()
        async with open_load(pair.vip, 8080, RATE, 2.0) as load:
            await eventually(ejected, 10, 0.01)
            sick.unlink()
            well = time.monotonic()
    answers = {outcome for due, _, outcome in load.records if due > well}
    assert answers == {"near"}, load.outcomes


@pytest.mark.anyio
async def test_a_healthy_service_does_not_send_anything_to_its_last_resort(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    near, near_at = pair.backend("near")
    dead = (loopback_net.next(), 9001)
    far, far_at = pair.backend("far")
    with near, far:
        async with pair.running():
            # Half of the own endpoints are dead: without further ado Envoy would send three in ten elsewhere.
            own = service_of("echo", [near_at, dead])
            await told(pair, service_of("echo", [far_at], locality=FAR), own)
            async with stuttering(pair), open_load(pair.vip, 8080, RATE, 1.0) as load:
                pass
            _, asked = await pair.a.admin._ask("GET", "/stats?filter=^cluster.last/b.upstream_cx_total")
    assert set(load.outcomes) == {"near"}, load.outcomes
    assert asked.decode().strip() == "cluster.last/b.upstream_cx_total: 0", "nobody had to wait for the frozen cluster"
