"""Start a real program, wait for what it says, stop, freeze or kill it, and always reap it."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from support.waiting import wait_until


class ProcessEnded(Exception):
    """The program ended while the test waited for it; carries the end of what it wrote."""


class Process:
    """A child process with its output (both streams) in a file. A context manager: leaving it stops and reaps it."""

    owned: ClassVar[set[int]] = set()
    """Processes that belong to a fixture which outlives the test, and which ends them: not left behind by the test."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        *,
        shared: bool = False,
    ) -> None:
        """`shared`: it belongs to a fixture that outlives a test."""
        self.command = [str(part) for part in command]
        self.log = log
        self.env = env
        self.cwd = cwd
        self.shared = shared
        self._child: subprocess.Popen[bytes] | None = None
        self._frozen = False
        self._asked = False

    def start(self) -> Self:
        assert self._child is None, "already started"
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.cwd,
                env={**os.environ, **self.env} if self.env is not None else None,
            )
        if self.shared:
            self.owned.add(self._child.pid)
        return self

    @property
    def pid(self) -> int:
        assert self._child is not None, "not started"
        return self._child.pid

    @property
    def status(self) -> int | None:
        """None while it runs; the exit status, or minus the signal's number, afterwards."""
        return self._child.poll() if self._child else None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def says(self, pattern: str) -> re.Match[str] | None:
        """The first match of the pattern in what it has written so far."""
        return re.search(pattern, self.output(), re.MULTILINE)

    def wait_for_line(self, pattern: str, within: float = 20.0) -> re.Match[str]:
        def heard() -> re.Match[str] | None:
            alive = self.running
            found = self.says(pattern)
            if not (found or alive):
                raise self.ended()
            return found

        found = wait_until(heard, within)
        assert found is not None
        return found

    def wait_for_port(self, host: str, port: int, within: float = 20.0) -> None:
        def listens() -> bool:
            if not self.running:
                raise self.ended()
            with socket.socket() as probe:
                probe.settimeout(1.0)
                return probe.connect_ex((host, port)) == 0

        wait_until(listens, within, every=0.02)

    def ended(self) -> ProcessEnded:
        return ProcessEnded(f"{self.command[0]} ended with {self.status}:\n{self.output()[-2000:]}")

    def send(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """It keeps its sockets and answers nothing."""
        self.send(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        self.send(signal.SIGCONT)
        self._frozen = False

    def ask_to_stop(self) -> None:
        """Ask it to end without waiting; `stop` then waits and does not ask twice: a second signal means "at once"."""
        self.send(signal.SIGTERM)
        self._asked = True

    def kill(self) -> None:
        self._end(signal.SIGKILL, within=10.0)

    def stop(self, within: float = 10.0) -> int | None:
        """Ask it to end, insist after `within` seconds, reap it; the exit status."""
        if self._frozen:
            self.thaw()
        return self._end(signal.SIGTERM, within)

    def wait(self, within: float = 30.0) -> int:
        """Wait until it ends by itself; the exit status."""
        assert self._child is not None, "not started"
        return self._child.wait(within)

    def _end(self, number: signal.Signals, within: float) -> int | None:
        if self._child is None:
            return None
        if number != signal.SIGTERM or not self._asked:
            self.send(number)
        try:
            self._child.wait(within)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        status, self._child, self._frozen, self._asked = self._child.returncode, None, False, False
        return status

    def __enter__(self) -> Self:
        return self if self._child else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
