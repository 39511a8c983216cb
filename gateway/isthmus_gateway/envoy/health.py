"""Follow Envoy's health verdicts as they are made: the event log by inotify, and the full state when in doubt."""

import asyncio
import ctypes
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from isthmus_core.errors import Unavailable
from isthmus_gateway.envoy.admin import Admin, HostAddress, Verdict

IN_MODIFY = 0x00000002
MAX_LOG_BYTES = 4 * 1024 * 1024
MIN_ROOM_BYTES = 64 * 1024  # what Envoy writes at once, at most
LOOKS_BETWEEN_STATES = 5
RETRY_S = 0.1

log = logging.getLogger(__name__)

_libc = ctypes.CDLL(None, use_errno=True)


class _Happened(msgspec.Struct, frozen=True):
    first_check: bool = False


class _Event(msgspec.Struct, frozen=True):
    """envoy.data.core.v3.HealthCheckEvent; one of the optional fields says what happened."""

    host: HostAddress
    cluster_name: str
    eject_unhealthy_event: _Happened | None = None
    add_healthy_event: _Happened | None = None
    health_check_failure_event: _Happened | None = None


_EVENT = msgspec.json.Decoder(_Event)


def parse_event(line: bytes) -> Verdict | None:
    """The verdict in one line of the log; None where nothing was decided (a degraded host, a repeated failure)."""
    event = _EVENT.decode(line)
    where = event.host.socket_address
    if where is None:
        return None
    if event.add_healthy_event is not None:
        return Verdict(event.cluster_name, where.address, where.port_value, True)
    first_failed = event.health_check_failure_event is not None and event.health_check_failure_event.first_check
    if event.eject_unhealthy_event is not None or first_failed:
        return Verdict(event.cluster_name, where.address, where.port_value, False)
    return None


class HealthLog:
    """Reads what Envoy appends; Envoy must run with `--file-flush-interval-msec 5`."""

    def __init__(self, path: Path, admin: Admin, max_bytes: int = MAX_LOG_BYTES) -> None:
        self._path: Final = path
        self._admin: Final = admin
        self._max_bytes: Final = max_bytes
        self._wake = asyncio.Event()
        self._full = True
        self._looks = 0

    def look(self) -> None:
        """See whether the disk has room, once a second: Envoy drops the verdicts that it cannot write.

        While there is none the full state is asked for now and then, and once more when there is room again.
        """
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize >= MIN_ROOM_BYTES:
            if self._looks:
                log.info("the disk has room again", extra={"file": str(self._path)})
                self._looks = 0
                self.read_again()
            return
        if self._looks == 0:
            log.warning("the disk is full, verdicts are late by seconds", extra={"file": str(self._path)})
        if self._looks % LOOKS_BETWEEN_STATES == 0:
            self.read_again()
        self._looks += 1

    def read_again(self) -> None:
        """Ask for the full state once more: Envoy was started anew."""
        self._full = True
        self._wake.set()

    async def follow(self, on_verdicts: Callable[[tuple[Verdict, ...]], None]) -> None:
        """Give the full state first and then every change, the newest last; runs until cancelled."""
        self._path.touch(mode=0o600)
        loop = asyncio.get_running_loop()
        with self._path.open("rb", buffering=0) as file, _FileWatch(self._path) as watch:
            loop.add_reader(watch.fileno(), self._wake.set)
            try:
                file.seek(0, os.SEEK_END)
                rest = b""
                while True:
                    self._wake.clear()
                    watch.empty()
                    if self._full:
                        # Events that are written while the full state is read are read afterwards, so the newest wins.
                        rest = b""
                        await self._give_full_state(on_verdicts)
                    *lines, rest = (rest + file.read()).split(b"\n")
                    if verdicts := self._read(lines):
                        on_verdicts(verdicts)
                    self._shorten(file.tell())
                    if file.tell() > os.fstat(file.fileno()).st_size:
                        file.seek(0)
                    elif not self._full:
                        await self._wake.wait()
            finally:
                loop.remove_reader(watch.fileno())

    async def _give_full_state(self, on_verdicts: Callable[[tuple[Verdict, ...]], None]) -> None:
        try:
            verdicts = await self._admin.clusters()
        except Unavailable:
            await asyncio.sleep(RETRY_S)  # Envoy is starting; its events are read meanwhile
            return
        self._full = False
        on_verdicts(verdicts)

    def _read(self, lines: Iterable[bytes]) -> tuple[Verdict, ...]:
        found = []
        for line in lines:
            try:
                verdict = parse_event(line) if line else None
            except msgspec.DecodeError:
                self._full = True  # the middle of a line, after the log was emptied under Envoy's hands
                continue
            if verdict is not None:
                found.append(verdict)
        return tuple(found)

    def _shorten(self, position: int) -> None:
        """Empty a log that was read to its end; Envoy appends, so it writes on at the start."""
        if position < self._max_bytes:
            return
        os.truncate(self._path, 0)
        self._full = True  # what was written between reading and emptying


class _FileWatch:
    """An inotify descriptor that becomes readable when the file was written to."""

    def __init__(self, path: Path) -> None:
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or _libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(IN_MODIFY)) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))

    def __enter__(self) -> "_FileWatch":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        return self._fd

    def empty(self) -> None:
        """Forget the notices: the file is read to its end anyway."""
        try:
            while os.read(self._fd, 65536):
                pass
        except BlockingIOError:
            pass
