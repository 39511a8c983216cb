"""SIGUSR2 starts a long-running command anew, however often it comes."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = """
import asyncio, sys
from isthmus_cli.running import run_until_signal
async def start(stop):
    print("runs", flush=True)
    await stop.wait()
print("begins", flush=True)
sys.stdin.readline()
{before}
run_until_signal(start, renewable=True)
"""
"""A command that heeds no signal before it is told so."""


@contextmanager
def running(before: str = "") -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", PROGRAM.format(before=before)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        given_up = threading.Timer(30, process.kill)
        given_up.start()
        try:
            yield process
        finally:
            given_up.cancel()
            process.kill()


def heard(process: "subprocess.Popen[str]", *, go_on: bool = False) -> str:
    assert process.stdin is not None and process.stdout is not None
    if go_on:
        process.stdin.write("\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_second_signal_before_the_first_has_been_followed_ends_nothing() -> None:
    with running() as process:
        assert heard(process) == "begins"
        for _ in range(2):
            assert heard(process, go_on=True) == "runs"
            process.send_signal(signal.SIGUSR2)
            assert heard(process) == "begins"
            process.send_signal(signal.SIGUSR2)  # nobody heeds it yet
        assert heard(process, go_on=True) == "runs"
        process.terminate()
        assert process.wait(20) == 0


def test_what_cannot_be_started_anew_goes_on_and_may_be_asked_again() -> None:
    with running("sys.executable = '/nowhere'") as process:
        assert heard(process) == "begins" and heard(process, go_on=True) == "runs"
        for _ in range(2):
            process.send_signal(signal.SIGUSR2)
            assert heard(process) == "the process could not start itself anew and goes on"
        process.terminate()
        assert process.wait(20) == 0
