"""Traffic moves by itself when something breaks, with no policy written, and no idempotent request is lost."""

import asyncio
import signal
import time

import pytest

from support.federation import Federation
from support.traffic import HttpLoad, LineLoad, answered_by, loading, serves

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
RATE = 200


def http(federation: Federation, cluster: str = "west") -> HttpLoad:
    return HttpLoad("echo", federation[cluster].vip(), 8080, RATE)


async def test_requests_leave_a_backend_that_is_killed_and_come_back(three: Federation) -> None:
    backend = three["west"].processes["backend-10-8080"]
    async with loading(http(three), "west") as load:
        backend.kill()
        await serves(load, "neighbour")
        backend.start()
        await serves(load, "west")
    assert load.lost == []
    assert load.answered_by(0)["east"] == 0


async def test_requests_leave_a_backend_that_is_frozen(three: Federation) -> None:
    backend = three["west"].processes["backend-10-8080"]
    async with loading(http(three), "west") as load:
        backend.freeze()
        await serves(load, "neighbour")
        await asyncio.sleep(1)
        backend.thaw()
    assert load.lost == []


async def test_requests_leave_a_whole_cluster_that_is_killed(three: Federation) -> None:
    three["west"].processes["backend-10-8080"].kill()
    async with loading(http(three), "neighbour") as load:
        three["neighbour"].kill()
        await serves(load, "east")
    assert load.lost == []


async def test_requests_leave_a_whole_cluster_that_is_frozen_and_come_back(three: Federation) -> None:
    three["west"].processes["backend-10-8080"].kill()
    async with loading(http(three), "neighbour") as load:
        three["neighbour"].signal(signal.SIGSTOP)
        await serves(load, "east")
        three["neighbour"].signal(signal.SIGCONT)
        await serves(load, "neighbour", within=20)
    assert load.lost == []


async def test_nothing_changes_for_traffic_when_the_controller_and_its_etcd_are_killed(three: Federation) -> None:
    three["west"].processes["backend-10-8080"].kill()
    assert three.process is not None
    async with loading(http(three), "neighbour") as load:
        three.process.kill()
        fault = time.monotonic()
        await asyncio.sleep(3)
        assert set(load.answered_by(fault)) == {"neighbour"}
        await asyncio.to_thread(three.start_controller)
        await asyncio.sleep(1)
        assert set(load.answered_by(fault)) == {"neighbour"}
    assert load.lost == []
    assert three.json("status")["exports"] == 3


async def test_envoy_goes_on_when_its_agent_is_killed_and_a_new_agent_takes_it_over(three: Federation) -> None:
    west = three["west"]
    async with loading(http(three), "west") as load:
        west.processes["gateway"].kill()
        await asyncio.sleep(1)
        west.start_gateway()
        await asyncio.to_thread(west.wait_ready)
        west.processes["backend-10-8080"].kill()
        await serves(load, "neighbour")
    assert load.lost == []


async def test_a_gateway_starts_from_its_last_state_with_the_controller_away(three: Federation) -> None:
    west = three["west"]
    west.processes["backend-10-8080"].kill()
    await answered_by(http(three), "neighbour")
    west.processes["gateway"].stop()
    three.stop_controller()
    west.start_gateway()
    await answered_by(http(three), "neighbour")


async def test_new_tcp_connections_leave_a_cluster_that_is_killed(three: Federation) -> None:
    for member in three.members.values():
        member.offer("line", 9000, protocol="tcp")
        if member.name != "west":
            member.start_backend(port=9000)
    load = LineLoad("line", three["west"].vip("line"), 9000, 50)
    async with loading(load, "neighbour"):
        three["neighbour"].kill()
        await serves(load, "east")
    assert load.lost == []


async def test_a_drained_cluster_gets_no_new_requests(three: Federation) -> None:
    three["west"].processes["backend-10-8080"].kill()
    async with loading(http(three), "neighbour") as load:
        three.cli("cluster", "drain", "neighbour")
        await serves(load, "east")
        drained = time.monotonic() + 0.2
        await asyncio.sleep(0.7)
        assert set(load.answered_by(drained)) == {"east"}
        three.cli("cluster", "undrain", "neighbour")
        await serves(load, "neighbour")
    assert load.lost == []
