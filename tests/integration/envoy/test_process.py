"""Envoy as a child: started, adopted after its agent's death, started again, stopped; and its verdicts followed."""

import asyncio
import json
import os
import signal
import stat
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from isthmus_core.errors import InvalidInput, Unavailable
from isthmus_core.model import AppProtocol
from isthmus_core.names import ClusterId
from isthmus_gateway.envoy import Admin, EnvoyFiles, EnvoyProcess, EnvoyState, Verdict, find_envoy
from isthmus_gateway.envoy.health import HealthLog, parse_event
from isthmus_gateway.envoy.process import last_line
from isthmus_gateway.resources import EnvoySettings, build_bootstrap
from support.addresses import LoopbackNet
from support.envoy_gateway import EnvoyGateway, Pair, service_of
from support.process import Process
from support.waiting import eventually

LOCAL = "local/echo.shop.svc.clusterset.local:8080"


def bootstrap(files: EnvoyFiles) -> str:
    return build_bootstrap(EnvoySettings("gateway-a", ClusterId("a"), str(files.xds_socket), str(files.admin_socket)))


async def answers(files: EnvoyFiles) -> bool:
    """Whether Envoy lives. It is not ready: nobody serves its configuration here."""
    try:
        return bool(await Admin(files.admin_socket).stats(r"^server\.live$"))
    except Unavailable:
        return False


class Agent:
    """Runs an EnvoyProcess in a task that can be cancelled."""

    def __init__(self, files: EnvoyFiles, text: str | None = None, program: Path | None = None) -> None:
        self.states: list[EnvoyState] = []
        self.process = EnvoyProcess(program or find_envoy(), files, concurrency=1)
        self._run = self.process.run(text or bootstrap(files), self.states.append)

    async def __aenter__(self) -> "Agent":
        self._group = await asyncio.TaskGroup().__aenter__()
        self._task = self._group.create_task(self._run, name="envoy")
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await self._group.__aexit__(None, None, None)


@pytest.mark.anyio
async def test_envoy_outlives_its_agent_and_is_adopted_by_the_next(tmp_path: Path) -> None:
    files = EnvoyFiles(tmp_path)
    async with Agent(files) as first:
        await eventually(lambda: first.states, 10)
        await eventually(lambda: answers(files), 20)
        assert stat.S_IMODE(files.admin_socket.stat().st_mode) == 0o600
    second = Agent(files)
    async with second:
        await eventually(lambda: second.states, 10)
        assert second.states == [EnvoyState(True, first.states[0].pid, adopted=True)]
        os.kill(first.states[0].pid, signal.SIGKILL)
        await eventually(lambda: len(second.states) >= 3, 10)
        assert not second.states[1].running and second.states[2].running and not second.states[2].adopted
    await second.process.stop(drain=0.0)
    assert second.process.running_pid() is None and not files.pid.exists()


@pytest.mark.anyio
async def test_an_envoy_whose_agent_died_before_it_wrote_the_pid_file_is_adopted_and_ended(tmp_path: Path) -> None:
    files = EnvoyFiles(tmp_path)
    async with Agent(files) as first:
        await eventually(lambda: first.states, 10)
    files.pid.unlink()
    second = Agent(files)
    async with second:
        await eventually(lambda: second.states, 10)
    assert second.states == [EnvoyState(True, first.states[0].pid, adopted=True)]
    await second.process.stop(drain=0.0)
    assert second.process.running_pid() is None and not Path(f"/proc/{first.states[0].pid}/exe").exists()


@pytest.mark.anyio
async def test_the_envoy_of_another_folder_is_not_adopted(tmp_path: Path) -> None:
    mine, theirs = EnvoyFiles(tmp_path / "mine"), EnvoyFiles(tmp_path / "theirs")
    async with Agent(theirs) as other:
        await eventually(lambda: other.states, 10)
    assert EnvoyProcess(find_envoy(), mine).running_pid() is None
    await other.process.stop(drain=0.0)


@pytest.mark.anyio
async def test_an_envoy_with_other_settings_is_started_again(tmp_path: Path) -> None:
    files = EnvoyFiles(tmp_path)
    async with Agent(files) as first:
        await eventually(lambda: first.states, 10)
        await eventually(lambda: answers(files), 20)
    other = build_bootstrap(EnvoySettings("b-1", ClusterId("b"), str(files.xds_socket), str(files.admin_socket)))
    second = Agent(files, other)
    async with second:
        await eventually(lambda: second.states, 10)
        assert not second.states[0].adopted and second.states[0].pid != first.states[0].pid
        await eventually(lambda: answers(files), 20)
    await second.process.stop(drain=0.5)


@pytest.mark.anyio
async def test_an_envoy_that_dies_at_start_is_quoted(tmp_path: Path) -> None:
    files = EnvoyFiles(tmp_path)
    async with Agent(files, '{"node": {"id": "x"}, "no_such_field": 1}') as agent:
        await eventually(lambda: any(not state.running for state in agent.states), 20)
    ended = next(state for state in agent.states if not state.running)
    assert "Envoy ended with status 1" in ended.why and "no_such_field" in ended.why
    await agent.process.stop(drain=0.0)


def test_the_last_line_is_of_this_life_and_says_why_it_crashed(tmp_path: Path) -> None:
    log = tmp_path / "envoy.log"
    log.write_text("[critical] of an earlier life\n")
    start = log.stat().st_size
    assert last_line(log, start) == ""
    with log.open("a") as file:
        file.write("[x][1][critical][backtrace] [a.h:1] Caught Segmentation fault, suspect faulting address 0x0\n")
        file.writelines(f"[x][1][critical][backtrace] [a.h:1] #{n}: [0x55]\n" for n in range(50))
        file.write("socket_: null\n")
    assert last_line(log, start).endswith("Caught Segmentation fault, suspect faulting address 0x0")


def test_a_missing_envoy_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_ENVOY", "/nowhere/envoy")
    with pytest.raises(InvalidInput, match="ISTHMUS_ENVOY is '/nowhere/envoy'"):
        find_envoy()


def test_a_foreign_process_is_not_adopted(tmp_path: Path) -> None:
    files = EnvoyFiles(tmp_path)
    files.pid.write_text(str(os.getpid()))
    assert EnvoyProcess(find_envoy(), files).running_pid() is None
    files.bootstrap.touch()
    with Process(
        [sys.executable, "-c", "import time; time.sleep(60)", "-c", files.bootstrap], tmp_path / "log"
    ) as other:
        assert EnvoyProcess(find_envoy(), files).running_pid() is None
        files.pid.write_text(str(other.pid))
        assert EnvoyProcess(find_envoy(), files).running_pid() is None


@pytest.mark.anyio
async def test_a_folder_whose_path_is_too_long_is_refused(tmp_path: Path) -> None:
    files = EnvoyFiles(tmp_path / ("x" * 100))
    with pytest.raises(InvalidInput, match="a unix socket takes 107"):
        await EnvoyProcess(find_envoy(), files).run("{}", lambda _: None)


def test_lines_of_the_health_log_are_verdicts() -> None:
    line = {
        "health_checker_type": "HTTP",
        "host": {"socket_address": {"address": "127.0.0.1", "port_value": 9001}},
        "cluster_name": LOCAL,
        "timestamp": "2030-01-01T00:00:00Z",
    }

    def said(**event: object) -> Verdict | None:
        return parse_event(json.dumps(line | event).encode())

    good, bad = (Verdict(LOCAL, "127.0.0.1", 9001, healthy) for healthy in (True, False))
    assert said(eject_unhealthy_event={"failure_type": "NETWORK"}) == bad
    assert said(health_check_failure_event={"failure_type": "NETWORK", "first_check": True}) == bad
    assert said(health_check_failure_event={"failure_type": "NETWORK"}) is None
    assert said(add_healthy_event={"first_check": True}) == good
    assert said(add_healthy_event={}) == good


@pytest.mark.anyio
async def test_a_verdict_arrives_within_a_tenth_of_a_second(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")
    took = []
    with backend:
        async with pair.running():
            pair.b.export(service_of("echo", [where], AppProtocol.HTTP, "gcp/eu-west-4/b"))
            await eventually(lambda: pair.b.verdict(LOCAL) == [True], 10)
            for healthy in (False, True, False, True, False):
                backend.start() if healthy else backend.kill()
                await eventually(partial(says, pair.b, healthy), 10)
                lines = [json.loads(line) for line in pair.b.files.health_log.read_text().splitlines()]
                # Envoy's stamp is made when the check has ended, before it writes.
                made = next(line["timestamp"] for line in reversed(lines) if line["cluster_name"] == LOCAL)
                took.append(pair.b.heard[LOCAL] - datetime.fromisoformat(made).timestamp())
    # Now and then a machine stands still for longer than that.
    assert median(took) < 0.1, took


def says(gateway: EnvoyGateway, healthy: bool) -> bool:
    return gateway.verdict(LOCAL) == [healthy]


@pytest.mark.anyio
async def test_the_health_log_is_emptied_when_it_is_long_and_no_verdict_is_lost(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    pair.b.health = HealthLog(pair.b.files.health_log, pair.b.admin, max_bytes=600)
    backend, where = pair.backend("far")
    with backend:
        async with pair.running():
            pair.b.export(service_of("echo", [where], AppProtocol.HTTP, "gcp/eu-west-4/b"))
            for _ in range(3):
                await eventually(lambda: pair.b.verdict(LOCAL) == [True], 10)
                backend.kill()
                await eventually(lambda: pair.b.verdict(LOCAL) == [False], 10)
                backend.start()
            await eventually(lambda: pair.b.verdict(LOCAL) == [True], 10)
            assert pair.b.files.health_log.stat().st_size < 2000


@pytest.mark.anyio
async def test_an_agent_that_was_killed_leaves_traffic_alone(tmp_path: Path) -> None:
    """kill -9 of the process that started Envoy: Envoy stays, and the next agent adopts it."""
    files = EnvoyFiles(tmp_path)
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from isthmus_gateway.envoy import EnvoyFiles, EnvoyProcess, find_envoy\n"
        "files = EnvoyFiles(Path(sys.argv[1])); text = sys.stdin.read()\n"
        "asyncio.run(EnvoyProcess(find_envoy(), files, 1).run(text, lambda state: None))\n"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path), stdin=-1)
    assert child.stdin is not None
    child.stdin.write(bootstrap(files).encode())
    child.stdin.close()
    await eventually(lambda: answers(files), 20)
    child.kill()
    await child.wait()
    agent = Agent(files)
    async with agent:
        await eventually(lambda: agent.states, 10)
        assert agent.states[0].adopted
        assert await answers(files)
    await agent.process.stop(drain=0.0)
    assert agent.process.running_pid() is None
