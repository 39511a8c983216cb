"""Real Envoys, real faults, counted requests: nothing idempotent is lost, and new connections find the living."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from isthmus_core.model import AppProtocol, CheckKind, HealthCheck
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair, service_of
from support.open_load import open_load
from support.process import Process
from support.waiting import eventually

FAR = "gcp/eu-west-4/b"
RATE = 200


async def answer(address: str, port: int, line: bytes = b"hello") -> bytes:
    """One line over a new TCP connection; empty when the connection was refused or closed."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(line + b"\n")
                return await reader.readline()
            finally:
                writer.close()
    except OSError:
        return b""


async def ready(pair: Pair, name: str, port: int = 8080) -> None:
    """Both gateways find both endpoints of the service healthy, and the VIP listens."""
    await pair.a.serving(f"egress/shop/{name}/{port}")
    await eventually(lambda: any(pair.b.verdict(f"local/{name}.shop.svc.clusterset.local:{port}")), 10)

    async def checked() -> bool:
        verdicts = await pair.a.admin.clusters()
        return [v.healthy for v in verdicts if v.cluster == f"service/shop/{name}/{port}"] == [True]

    await eventually(checked, 10)


def kill(process: Process, _: Path) -> None:
    os.kill(process.pid, signal.SIGKILL)


def freeze(process: Process, _: Path) -> None:
    process.freeze()


def sicken(_: Process, sick: Path) -> None:
    sick.touch()


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [kill, freeze, sicken])
async def test_no_request_is_lost_when_the_near_backend_fails(
    fault: Callable[[Process, Path], None], tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair, sick = Pair(tmp_path, loopback_net), tmp_path / "sick"
    near, near_at = pair.backend("near", sick=sick)
    far, far_at = pair.backend("far")
    with near, far:
        async with pair.running():
            there = service_of("echo", [far_at], locality=FAR)
            pair.b.export(there)
            pair.a.serve(pair.vip, service_of("echo", [near_at]), [("b", there)])
            await ready(pair, "echo")
            async with open_load(pair.vip, 8080, RATE, 3.0) as load:
                await asyncio.sleep(1.0)
                moment = time.monotonic()
                fault(near, sick)
            assert load.lost("near", "far") == 0, load.outcomes
            assert load.outcomes["near"] > RATE / 2 and load.outcomes["far"] > RATE
            assert load.first_answer_after(moment, "far") < 1.5


@pytest.mark.anyio
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_no_request_is_lost_when_the_gateway_of_the_nearest_cluster_fails(
    how: signal.Signals, tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net, near="aws/eu-west-1/b")
    here, here_at = pair.backend("here")
    there, there_at = pair.backend("there")
    with here, there:
        async with pair.running():
            remote = service_of("echo", [there_at], locality="aws/eu-west-1/b")
            pair.b.export(remote)
            # Cluster a's own endpoints are farther away than cluster b: the tunnel is the first tier.
            pair.a.serve(pair.vip, service_of("echo", [here_at], locality="onprem/oslo/1"), [("b", remote)])
            await ready(pair, "echo")
            async with open_load(pair.vip, 8080, RATE, 4.0) as load:
                await asyncio.sleep(1.0)
                pid = pair.b.die(how)
            if how is signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
            assert load.lost("here", "there") == 0, load.outcomes
            assert load.outcomes["there"] > RATE / 2 and load.outcomes["here"] > RATE


@pytest.mark.anyio
async def test_new_tcp_connections_leave_a_dead_cluster_without_any_update(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net, near="aws/eu-west-1/b")
    pair.a.move_services = False  # Envoy alone: what it does takes the same time for ten services and ten thousand
    here, here_at = pair.backend("here")
    there, there_at = pair.backend("there")
    names = [f"lines-{number}" for number in range(10)]
    with here, there:
        async with pair.running():
            for number, name in enumerate(names):
                check = HealthCheck(CheckKind.TCP)
                remote = service_of(name, [there_at], AppProtocol.TCP, "aws/eu-west-1/b", check, 9000 + number)
                local = service_of(name, [here_at], AppProtocol.TCP, "onprem/oslo/1", check, 9000 + number)
                pair.b.export(remote)
                pair.a.serve(pair.vip, local, [("b", remote)])
            for number, name in enumerate(names):
                await ready(pair, name, 9000 + number)
                assert await answer(pair.vip, 9000 + number) == b"there hello\n"
            pid = pair.b.die(signal.SIGSTOP)
            await eventually(lambda: pair.a.unreachable == {"b"}, 10)

            for _ in range(5):
                for number in range(len(names)):
                    assert await answer(pair.vip, 9000 + number) == b"here hello\n"
            os.kill(pid, signal.SIGCONT)
            await eventually(lambda: not pair.a.unreachable, 10)

            async def back() -> bool:
                return await answer(pair.vip, 9000) == b"there hello\n"

            await eventually(back, 15, every=0.1)


@pytest.mark.anyio
@pytest.mark.parametrize("app", [AppProtocol.HTTP, AppProtocol.TCP])
async def test_the_last_host_is_never_ejected(app: AppProtocol, tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    near, near_at = pair.backend("near")
    with near:
        async with pair.running():
            none = HealthCheck(CheckKind.NONE)  # nothing but the ejection could take it away, or bring it back
            pair.a.serve(pair.vip, service_of("echo", [near_at], app, check=none))
            await pair.a.serving("egress/shop/echo/8080")
            request = b"GET / HTTP/1.1\r\nhost: x\r\n\r" if app is AppProtocol.HTTP else b"hello"
            good = b"HTTP/1.1 200 OK\r\n" if app is AppProtocol.HTTP else b"near hello\n"
            await eventually(lambda: is_answer(pair, request, good), 5)
            near.kill()
            for _ in range(30):
                assert await answer(pair.vip, 8080, request) != good
            near.start().wait_for_port(*near_at)
            assert await answer(pair.vip, 8080, request) == good


async def is_answer(pair: Pair, request: bytes, good: bytes) -> bool:
    return await answer(pair.vip, 8080, request) == good


@pytest.mark.anyio
async def test_when_every_endpoint_looks_sick_the_service_is_still_tried(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    """A health check that is wrong must not take a working service away."""
    pair, sick = Pair(tmp_path, loopback_net), tmp_path / "sick"
    sick.touch()
    near, near_at = pair.backend("near", sick=sick)
    with near:
        async with pair.running():
            wrong = HealthCheck(CheckKind.HTTP, "/no-such-page")
            pair.a.serve(pair.vip, service_of("echo", [near_at], AppProtocol.TCP, check=wrong))
            await pair.a.serving("egress/shop/echo/8080")

            async def found_sick() -> bool:
                verdicts = await pair.a.admin.clusters()
                return [v.healthy for v in verdicts if v.cluster.startswith("service/")] == [False]

            await eventually(found_sick, 10)
            assert await answer(pair.vip, 8080) == b"near hello\n"


@pytest.mark.anyio
async def test_a_dead_endpoint_that_is_least_busy_does_not_get_every_retry(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    """What fails at once has no request under way, and a balancer that looks for that sends it the retries as well."""
    pair = Pair(tmp_path, loopback_net)
    living, dead = (loopback_net.next(), 9001), (loopback_net.next(), 9001)
    none = HealthCheck(CheckKind.NONE)  # until a check has found out, retries are all there is
    async with await asyncio.start_server(_answer_slowly, *living), pair.running():
        pair.a.serve(pair.vip, service_of("echo", [living, dead], check=none))
        await pair.a.serving("egress/shop/echo/8080")
        lines: list[bytes] = []

        async def ask(number: int) -> None:
            await asyncio.sleep(number / 200)
            lines.append(await answer(pair.vip, 8080, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r"))

        async with asyncio.TaskGroup() as group:
            for number in range(600):
                group.create_task(ask(number))
        assert Counter(lines) == {b"HTTP/1.1 200 OK\r\n": 600}


async def _answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError, OSError):
        while await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(0.1)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    writer.close()
