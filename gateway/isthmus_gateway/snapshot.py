"""Keep the last known state on disk, so that a gateway serves at once although no controller answers."""

import asyncio
import hashlib
import ipaddress
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

from isthmus_core.errors import InvalidInput

log = logging.getLogger(__name__)

SCHEMA = 1
WRITE_PAUSE_S = 1.0
RETRY_S = 2.0


class Snapshot(msgspec.Struct, frozen=True):
    """What a gateway must know to serve: the fleet's resources as they came, its VIPs and the zone's serial."""

    cluster: str
    resources: Mapping[str, Mapping[str, tuple[str, bytes]]] = {}  # type -> name -> version and serialised message
    vips: Mapping[str, str] = {}  # "<namespace>/<service>" -> address
    files: Mapping[str, bytes] = {}  # the last good content of service files that cannot be used now
    zone_serial: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0  # RFC 1035, section 3.3.13
    saved_at_ms: int = 0


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    """What stands in the file: first the schema, so that every release can read at least that."""

    schema: int
    digest: bytes
    content: bytes


def encode(snapshot: Snapshot) -> bytes:
    """The bytes of the file."""
    content = msgspec.msgpack.encode(snapshot)
    return msgspec.msgpack.encode(_Envelope(SCHEMA, _digest(content), content))


def decode(content: bytes, cluster: str) -> Snapshot:
    """A snapshot from its bytes; raises InvalidInput with the reason why it cannot be used."""
    try:
        envelope = msgspec.msgpack.decode(content, type=_Envelope)
        if envelope.schema > SCHEMA:
            raise InvalidInput(f"it was written by a newer release (schema {envelope.schema}, this one knows {SCHEMA})")
        if _digest(envelope.content) != envelope.digest:
            raise InvalidInput("it is damaged: its checksum does not match")
        snapshot = msgspec.msgpack.decode(envelope.content, type=Snapshot)
        for address in snapshot.vips.values():
            ipaddress.ip_address(address)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidInput(f"it is damaged: {error}") from error
    if snapshot.cluster != cluster:
        raise InvalidInput(f"it belongs to cluster {snapshot.cluster}, not to {cluster}")
    return snapshot


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def load(path: Path, cluster: str) -> tuple[Snapshot | None, str]:
    """The snapshot at `path`, or None with a sentence when it cannot be used (no sentence: there is none).

    One that cannot be used is set aside, so that the next one does not overwrite what somebody may want to look at.
    """
    try:
        return decode(path.read_bytes(), cluster), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, InvalidInput) as error:
        reason = str(error) if isinstance(error, InvalidInput) else os.strerror(error.errno or 0)
        with suppress(OSError):
            path.rename(path.with_name(path.name + ".unusable"))
        return None, f"the snapshot {path} cannot be used: {reason}. Starting without it, until a controller answers."


def write(path: Path, content: bytes) -> None:
    """Replace the file in one step; raises OSError and leaves the old one as it was."""
    aside = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with memoryview(content) as rest:
                at = 0
                while at < len(rest):
                    at += os.write(descriptor, rest[at:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    except OSError:
        with suppress(OSError):
            aside.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A rename is on disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SnapshotWriter:
    """Writes the newest state at most once a second; `tell` gets a sentence while that fails, and "" when it works."""

    def __init__(self, path: Path, take: Callable[[], Snapshot], tell: Callable[[str], None]) -> None:
        self._path = path
        self._take = take
        self._tell = tell
        self._changed = asyncio.Event()
        self._told = ""

    def warn(self, sentence: str) -> None:
        """The snapshot on disk cannot be used: say so until one is written."""
        self._told = sentence
        self._tell(sentence)

    def changed(self) -> None:
        """Something that a snapshot holds has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Write after each change, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if await self.save():
                await asyncio.sleep(WRITE_PAUSE_S)
            else:
                self._changed.set()
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> None:
        """At the end of the process: write what is not written yet."""
        if self._changed.is_set():
            self._changed.clear()
            await self.save()

    async def save(self) -> bool:
        """Write now; whether it worked."""
        content = encode(self._take())
        try:
            await asyncio.to_thread(write, self._path, content)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            sentence = (
                f"the snapshot {self._path} cannot be written: {why}. The old one stays; free space or mend the folder."
            )
            if sentence != self._told:
                log.warning("snapshot not written, the old one stays", extra={"file": str(self._path), "reason": why})
            self._told = sentence
            self._tell(sentence)
            return False
        if self._told:
            log.info("snapshot written again", extra={"file": str(self._path)})
            self._told = ""
            self._tell("")
        return True
