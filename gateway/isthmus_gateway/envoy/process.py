"""Keep one Envoy running: adopt the one that an earlier agent left, else start it; again when it ends."""

import asyncio
import contextlib
import logging
import os
import random
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from isthmus_core.errors import InvalidInput, IsthmusError, Unavailable
from isthmus_gateway.envoy.admin import Admin
from isthmus_gateway.envoy.files import EnvoyFiles
from isthmus_kit.backoff import Backoff
from isthmus_kit.files import make_folder, write_file

log = logging.getLogger(__name__)

# An Envoy that ran this long was all right: the next restart is not one of a series.
STEADY_S = 10.0
TERM_S = 3.0
# Connections of a listener, or of a part of one, that is no more have so long (Envoy's default: ten minutes): those of
# a removed cluster, those through a service that is not imported any more or is spoken to differently from now on.
DRAIN_S = 10
MAX_LOG_BYTES = 16 * 1024 * 1024


class EnvoyState(msgspec.Struct, frozen=True):
    """Whether Envoy runs, and why not: `why` ends with the last line that it logged."""

    running: bool
    pid: int = 0
    adopted: bool = False
    why: str = ""
    restarts: int = 0


class EnvoyProcess:
    """One Envoy and its pid file. Envoy outlives its agent on purpose: traffic goes on while the agent restarts."""

    def __init__(
        self,
        program: Path,
        files: EnvoyFiles,
        concurrency: int = 2,
        backoff: Backoff | None = None,
        drain_s: int = DRAIN_S,
    ) -> None:
        self._program: Final = program
        self._files: Final = files
        self._concurrency: Final = concurrency
        self._backoff: Final = backoff or Backoff()
        self._drain_s: Final = drain_s
        self._admin: Final = Admin(files.admin_socket)
        self._log_start = 0

    async def run(self, bootstrap: str, on_state: Callable[[EnvoyState], None]) -> None:
        """Keep Envoy running until cancelled; then it is left running (see `stop`).

        Raises InvalidInput when the folder cannot be used.
        """
        make_folder(self._files.folder)
        self._files.check()
        await self._renew(bootstrap)
        attempt = restarts = 0
        found = self.running_pid()
        while True:
            adopted = found is not None
            pid = found or self._start()
            found = None
            log.info("envoy is running", extra={"pid": pid, "adopted": adopted})
            on_state(EnvoyState(True, pid, adopted, restarts=restarts))
            started = time.monotonic()
            await _ended(pid)
            why = self._obituary(pid)
            attempt = 0 if time.monotonic() - started > STEADY_S else attempt + 1
            log.warning("envoy ended", extra={"pid": pid, "why": why})
            on_state(EnvoyState(False, why=why, restarts=restarts))
            await asyncio.sleep(self._backoff.delay(attempt, random.random) if attempt else 0.0)
            restarts += 1

    async def stop(self, drain: float = 5.0) -> None:
        """End Envoy: clients are asked to leave and get `drain` seconds for it, then SIGTERM, then SIGKILL.

        Cancelled meanwhile (a person who cannot wait asks twice), it kills Envoy at once: nobody would end it later.
        """
        pid = self.running_pid()
        if pid is None:
            return
        try:
            await self._drain(drain)
            if not await _signalled(pid, signal.SIGTERM, TERM_S):
                await _signalled(pid, signal.SIGKILL, TERM_S)
        except asyncio.CancelledError:
            if self.running_pid() == pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise
        self._obituary(pid)
        self._files.pid.unlink(missing_ok=True)

    def running_pid(self) -> int | None:
        """The Envoy that runs with this folder's bootstrap: the one of the pid file, else whichever there is.

        An agent that was killed, or met a full disk, right after it had started Envoy has written no pid file.
        """
        try:
            pid = int(self._files.pid.read_text())
        except (OSError, ValueError):
            pid = 0
        if pid and self._runs_bootstrap(pid):
            return pid
        return min(filter(self._sees_bootstrap, filter(self._runs_bootstrap, _own_processes())), default=None)

    def _runs_bootstrap(self, pid: int) -> bool:
        """Whether this is an Envoy that was started for this folder; a foreign process under a reused number is not."""
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        # As `_start` writes them: an editor or a pager that has the file open is not Envoy.
        ours = b"\0-c\0" + os.fsencode(self._files.bootstrap) + b"\0--concurrency\0"
        return ours in arguments and state not in "ZX"

    def _sees_bootstrap(self, pid: int) -> bool:
        """Whether the path means this very file to a process too: another container may use the same path."""
        try:
            return os.path.samefile(f"/proc/{pid}/root{self._files.bootstrap}", self._files.bootstrap)
        except OSError:
            return False

    async def _renew(self, bootstrap: str) -> None:
        """An Envoy that was started with another bootstrap does not know its agent: start it anew."""
        with contextlib.suppress(OSError):
            if self._files.bootstrap.read_text() == bootstrap:
                return  # and nothing is written: a full disk keeps nobody from adopting
        if self.running_pid() is not None:
            log.info("envoy was started with other settings and is started again")
            await self.stop(drain=1.0)
        write_file(self._files.bootstrap, bootstrap.encode())

    def _start(self) -> int:
        if self._files.log.exists() and self._files.log.stat().st_size > MAX_LOG_BYTES:
            self._files.log.replace(self._files.log.with_suffix(".log.1"))
        arguments = [
            str(self._program),
            "-c", str(self._files.bootstrap),
            "--concurrency", str(self._concurrency),
            # One Envoy follows another only after it ended; hot restart would need a shared base id per machine.
            "--disable-hot-restart",
            # The health log is written every 10 s by default.
            "--file-flush-interval-msec", "5",
            # When drained, tell every client at once; the default spreads it over ten minutes.
            "--drain-strategy", "immediate",
            "--drain-time-s", str(self._drain_s),
            "--log-level", "warning",
        ]  # fmt: skip
        with self._files.log.open("ab") as output, open(os.devnull, "rb") as nothing:
            self._log_start = output.tell()
            descriptors = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 0)]
            descriptors += [(os.POSIX_SPAWN_DUP2, output.fileno(), number) for number in (1, 2)]
            try:
                # A session of its own: Ctrl-C in the agent's terminal is for the agent, which then drains Envoy.
                pid = os.posix_spawn(self._program, arguments, os.environ, file_actions=descriptors, setsid=True)
            except OSError as error:
                raise InvalidInput(
                    f"{self._program} cannot be started: {error.strerror}", "Set ISTHMUS_ENVOY."
                ) from error
        try:
            write_file(self._files.pid, str(pid).encode())
        except IsthmusError as error:
            log.warning("pid file of envoy not written, it is found without", extra={"pid": pid, "reason": str(error)})
        return pid

    def _obituary(self, pid: int) -> str:
        """How Envoy ended, in one sentence with its last log line; takes the status of one that we started."""
        how = ""
        try:
            reaped, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass  # an earlier agent's child
        else:
            code = os.waitstatus_to_exitcode(status) if reaped else 0
            how = f" with status {code}" if code >= 0 else f" by signal {-code}"
        last = last_line(self._files.log, self._log_start)
        return f"Envoy ended{how}; " + (f"its last line: {last}" if last else f"{self._program} said nothing")

    async def _drain(self, seconds: float) -> None:
        """Wait until no request is under way, a moment at least: other gateways must notice too."""
        try:
            async with asyncio.timeout(seconds):
                await self._admin.drain()
                while True:
                    await asyncio.sleep(min(0.2, seconds / 5))
                    active = await self._admin.stats(r"^http\.(egress|ingress)\.downstream_rq_active$")
                    if sum(active.values()) == 0:
                        return
        except (TimeoutError, Unavailable):
            return  # the deadline was the promise; who is still there loses the connection


def _own_processes() -> Iterator[int]:
    """The processes of this user (proc(5))."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if entry.stat().st_uid == os.geteuid():
                yield int(entry.name)


def last_line(path: Path, start: int = 0) -> str:
    """The last line after `start` that says something: why it crashed, else the newest critical or error line near
    the end, else the last line."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - 65_536))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    # A crash is followed by its stack and by what was under way.
    crashes = [line for line in lines if "[critical]" in line and "] Caught " in line]
    telling = [line for line in lines[-20:] if "[critical]" in line or "[error]" in line]
    return (crashes or telling or lines or [""])[-1].strip()


async def _ended(pid: int) -> None:
    """Wait until a process ends, whoever its parent is (pidfd_open(2))."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _signalled(pid: int, number: int, seconds: float) -> bool:
    """Send a signal through a pidfd, so that it never hits a reused number; whether the process ended in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(descriptor, number)
        async with asyncio.timeout(seconds):
            await _ended(pid)
    except ProcessLookupError:
        return True
    except TimeoutError:
        return bool(select.select([descriptor], [], [], 0)[0])
    finally:
        os.close(descriptor)
    return True
