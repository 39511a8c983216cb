"""Run the isthmus command in forks of one process that has imported everything: a fifth of the time of a fresh one.

What a fork runs is the command itself: its own arguments, environment, folder, streams and exit status. Only the
imports are done before. That a command finds what it imports is for tests that start it as a person does.
"""

import atexit
import gc
import importlib
import os
import pkgutil
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from support.process import Process


class Call(msgspec.Struct, frozen=True):
    """One command: the words behind `isthmus`, and the files that are its three streams."""

    words: list[str]
    env: dict[str, str]
    folder: str
    streams: tuple[str, str, str]


class WarmCommand:
    """The process that has imported everything and waits. A context manager: leaving it ends and reaps it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.warm_command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        Process.owned.add(self._process.pid)

    def run(
        self, words: Sequence[str], env: Mapping[str, str], stdin: str, timeout_s: float
    ) -> "subprocess.CompletedProcess[str]":
        """As `subprocess.run` does, with the output as text."""
        with tempfile.TemporaryDirectory() as made:
            streams = [Path(made, name) for name in ("stdin", "stdout", "stderr")]
            for path, text in zip(streams, (stdin, "", ""), strict=True):
                path.write_text(text)
            first, second, third = map(str, streams)
            call = Call(list(words), dict(env), os.getcwd(), (first, second, third))
            status = self._ask(msgspec.json.encode(call), timeout_s)
            return subprocess.CompletedProcess(
                ["isthmus", *words], status, streams[1].read_text(), streams[2].read_text()
            )

    def _ask(self, call: bytes, timeout_s: float) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(call + b"\n")
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            raise subprocess.TimeoutExpired("isthmus", timeout_s)
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        Process.owned.discard(self._process.pid)


def wait_for_calls() -> None:
    """Fork for each call, and tell how its fork ended; comes back in the forks alone."""
    for line in sys.stdin.buffer:
        if not (child := os.fork()):
            become(msgspec.json.decode(line, type=Call))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


def become(call: Call) -> None:
    """Take on all that makes this process the command that was called."""
    for number, (path, flags) in enumerate(zip(call.streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  (as long as the process); the old one may hold the next call
    os.environ.clear()
    os.environ.update(call.env)
    os.chdir(call.folder)
    sys.argv = ["isthmus", *call.words]


def run_command() -> None:
    """Run the command here and end with its status, but do not take down, piece by piece, what was only borrowed."""
    from isthmus_cli.main import main

    try:
        main()
    except SystemExit as end:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


def import_everything() -> None:
    """All modules of the command and of the parts that it starts, and so all that they import."""
    for name in ("isthmus_cli", "isthmus_controller", "isthmus_dns", "isthmus_gateway"):
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # what a fork does not look through is not copied for it


if __name__ == "__main__":
    import_everything()
    wait_for_calls()
    run_command()
