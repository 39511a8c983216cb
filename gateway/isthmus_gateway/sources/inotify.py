"""Ask Linux what changes inside a folder: the few calls of inotify(7) that the file source needs."""

import ctypes
import os
import struct
from pathlib import Path

import msgspec

_libc = ctypes.CDLL(None, use_errno=True)

CLOSE_WRITE = 0x00000008
MOVED_FROM = 0x00000040
MOVED_TO = 0x00000080
CREATE = 0x00000100
DELETE = 0x00000200
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
UNMOUNT = 0x00002000
OVERFLOW = 0x00004000
IGNORED = 0x00008000
ONLYDIR = 0x01000000

# No MODIFY: a file that is being written is not finished, and one that was just truncated is not empty on purpose.
WATCHED = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF | ONLYDIR
FOLDER_GONE = DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED

_EVENT = struct.Struct("iIII")


class FolderEvent(msgspec.Struct, frozen=True):
    """What happened to `name` in the folder; no name: to the folder itself."""

    mask: int
    name: str


def parse_events(content: bytes) -> list[FolderEvent]:
    """The events in the bytes that the kernel gave."""
    events: list[FolderEvent] = []
    at = 0
    while at + _EVENT.size <= len(content):
        _, mask, _, length = _EVENT.unpack_from(content, at)
        at += _EVENT.size
        events.append(FolderEvent(mask, os.fsdecode(content[at : at + length].rstrip(b"\0"))))
        at += length
    return events


class FolderWatch:
    """A watch on one folder; `fileno()` is readable when something happened. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1: " + os.strerror(ctypes.get_errno()))
        if _libc.inotify_add_watch(self._fd, os.fsencode(folder), ctypes.c_uint32(WATCHED)) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, os.strerror(number), str(folder))

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._fd

    def read(self) -> list[FolderEvent]:
        """All events that wait; never blocks."""
        events: list[FolderEvent] = []
        while True:
            try:
                content = os.read(self._fd, 65536)
            except BlockingIOError:
                return events
            events.extend(parse_events(content))

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
