"""The tests' own tools do what their names say."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from support.addresses import LoopbackNet, free_port
from support.command import isthmus, warm
from support.process import Process, ProcessEnded
from support.relay import Relay
from support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(1000):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_eventually_gives_the_first_true_answer() -> None:
    answers = iter([0, 0, 7])
    assert await eventually(lambda: next(answers)) == 7


async def test_eventually_fails_with_the_last_answer() -> None:
    with pytest.raises(AssertionError, match=r"not true within 0.05 s; the last answer was: \[\]"):
        await eventually(list, within=0.05)


async def test_eventually_takes_a_failed_assert_as_not_yet() -> None:
    answers = iter([0, 0, 7, *[0] * 1000])

    def seven() -> bool:
        assert next(answers) == 7, "not seven"
        return True

    assert await eventually(seven)
    with pytest.raises(AssertionError, match="not seven"):
        await eventually(seven, within=0.05)


async def test_a_relay_carries_delays_swallows_and_cuts() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, Relay((host, port)) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"hello")
        assert await reader.read(10) == b"hello"
        relay.delay = 0.05
        before = asyncio.get_running_loop().time()
        writer.write(b"slow")
        assert await reader.read(10) == b"slow"
        assert asyncio.get_running_loop().time() - before >= 0.099
        relay.delay = 0.0
        relay.black_hole()
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(10)
        relay.restore()
        assert await reader.read(10) == b"late"
        relay.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read(10)
        writer.close()
        await relay.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", relay.port)
        await eventually(lambda: relay.connections == 0)


def test_a_process_is_heard_frozen_and_reaped(tmp_path: Path) -> None:
    script = "import time; print('ready', flush=True); time.sleep(60)"
    with Process([sys.executable, "-c", script], tmp_path / "log") as process:
        process.wait_for_line("^ready$")
        process.freeze()
        wait_until(lambda: " T " in Path(f"/proc/{process.pid}/stat").read_text())
        process.thaw()
        assert process.running
        assert process.stop() == -15


def test_a_process_that_ends_early_shows_what_it_said(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"], tmp_path / "log")
    with process, pytest.raises(ProcessEnded, match=r"ended with 3:\nno such luck"):
        process.wait_for_line("ready")


def test_two_nets_do_not_meet() -> None:
    one, other = LoopbackNet(), LoopbackNet()
    assert one.prefix != other.prefix
    assert free_port(one.next()) > 0
    one.close()
    other.close()


LEAKS = """
import asyncio, subprocess, threading, time
import pytest

@pytest.mark.anyio
async def test_task():
    global kept
    kept = asyncio.get_running_loop().create_task(asyncio.sleep(30), name="forgotten task")

def test_thread():
    threading.Thread(target=time.sleep, args=(3,), name="forgotten thread").start()

def test_process():
    global child
    child = subprocess.Popen(["sleep", "2"])
"""


def test_a_leak_fails_the_test_that_made_it(tmp_path: Path) -> None:
    (tmp_path / "test_leaks.py").write_text(LEAKS)
    root = Path(__file__).parents[2]
    options = ["-p", "conftest", "-p", "no:cacheprovider", f"--config-file={root}/pyproject.toml", "-Wignore"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"{tmp_path}/test_leaks.py"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the test left tasks behind: forgotten task" in run.stdout
    assert "the test left behind: thread forgotten thread" in run.stdout
    assert "(sleep 2)" in run.stdout
    assert "3 passed, 3 errors" in run.stdout


def test_a_warm_command_says_and_ends_as_one_that_was_just_started(tmp_path: Path) -> None:
    calls = {
        ("version",): (0, "isthmus "),
        ("status", "--nonsense"): (2, "No such option"),
        ("cluster", "join", "--token-file", "nowhere"): (1, "the token file nowhere cannot be read"),
        ("cluster", "join"): (1, "token"),  # from standard input
    }
    cold = {words: isthmus(*words, home=tmp_path, stdin="no token\n") for words in calls}
    with warm():
        for words, (status, heard) in [*calls.items()] * 2:
            done, before = isthmus(*words, home=tmp_path, stdin="no token\n"), cold[words]
            assert (done.returncode, done.stdout, done.stderr) == (status, before.stdout, before.stderr)
            assert heard in done.stdout + done.stderr
