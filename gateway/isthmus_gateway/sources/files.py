"""Watch a folder of YAML documents and publish the services that they describe, within milliseconds of a change."""

import asyncio
import logging
import os
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from errno import EACCES, EPERM
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from isthmus_core.errors import InvalidInput
from isthmus_core.model import LocalServices
from isthmus_core.names import Locality
from isthmus_gateway.sources import inotify
from isthmus_gateway.sources.assembly import Assembly, Problem, assemble, problem_of
from isthmus_gateway.sources.documents import MAX_BYTES, FileError, Place
from isthmus_gateway.sources.services import FileContent, parse_file
from isthmus_kit.latest import Latest

log = logging.getLogger(__name__)

# A file that vanishes is looked for again after this time before its services go: many editors move a file away
# and write it anew.
VANISH_GRACE_S = 0.1
# Not every file system tells of changes (NFS, some mounts): look by ourselves as well.
AUDIT_S = 5.0
# A change that only the audit sees may still be going on.
SETTLED_S = 2.0
# So many problems are named in one line; all of them are in the log and in the gateway's state.
NAMED = 5

Signature = tuple[int, int, int]


class SourceState(msgspec.Struct, frozen=True):
    """What is wrong with the folder and its files now; empty when all is well."""

    problems: tuple[Problem, ...] = ()
    folder: str = ""

    @property
    def sentence(self) -> str:
        """For readiness: what is wrong, in one line; the first few of many problems."""
        shown = [str(problem).rstrip(".") for problem in self.problems[:NAMED]]
        more = [f"and {len(self.problems) - NAMED} more"] if len(self.problems) > NAMED else []
        parts = [*([self.folder] if self.folder else []), *shown, *more]
        told = "; ".join(parts)
        return told if not told or told.endswith("?") else told + "."


class FileSource:
    """Publishes `services` and `state`. A file that cannot be used keeps its last good content; the others go on."""

    def __init__(self, folder: Path, default: Locality, registry: CollectorRegistry) -> None:
        self.services: Latest[LocalServices] = Latest()
        self.state: Latest[SourceState] = Latest(SourceState())
        self._folder = folder
        self._default = default
        self._files: dict[str, FileContent] = {}
        self._problems: dict[str, Problem] = {}
        self._good: dict[str, bytes] = {}
        self._signatures: dict[str, Signature] = {}
        self._vanished: dict[str, float] = {}
        self._assembly = Assembly()
        self._rejections = Counter(
            "isthmus_files_rejected", "Readings of a file that could not be used", registry=registry
        )
        self._broken = Gauge("isthmus_files_broken", "Files that cannot be used now", registry=registry)
        self._known = Gauge("isthmus_files", "Files in the services folder", registry=registry)

    def load(self, last_good: Mapping[str, bytes] = {}) -> None:
        """Read the whole folder once; raises InvalidInput when there is none.

        `last_good`: what files that cannot be used said when they last could, from an earlier life.
        """
        try:
            names = self._listed()
        except OSError as error:
            raise InvalidInput(
                f"the services folder {self._folder} cannot be read: {os.strerror(error.errno or 0)}",
                "Create it, or name another one with --services.",
            ) from error
        for name in names:
            self._read(name)
            if name in self._problems and name in last_good:
                self._recall(name, last_good[name])
        self._publish()

    @property
    def broken(self) -> dict[str, bytes]:
        """The last good content of the files that cannot be used now."""
        return {name: self._good[name] for name in self._problems if name in self._good}

    async def run(self) -> None:
        """Follow the folder for ever. A folder that vanishes takes no service away: the last known ones stay."""
        while True:
            try:
                watch = inotify.FolderWatch(self._folder)
                names = self._listed()
            except OSError as error:
                self._tell_folder(
                    f"the services folder {self._folder} cannot be read ({error.strerror}); its last services stay"
                )
                await asyncio.sleep(1.0)
                continue
            try:
                self._tell_folder("")
                # What changed before the watch stood is seen by looking once.
                self._refresh([name for name in {*names, *self._signatures} if self._changed(name)])
                await self._follow(watch)
            finally:
                watch.close()

    async def _follow(self, watch: inotify.FolderWatch) -> None:
        """Until the folder goes away."""
        loop = asyncio.get_running_loop()
        stirred = asyncio.Event()
        loop.add_reader(watch.fileno(), stirred.set)
        try:
            while True:
                try:
                    async with asyncio.timeout(VANISH_GRACE_S if self._vanished else AUDIT_S):
                        await stirred.wait()
                except TimeoutError:
                    self._refresh(self._audit())
                    continue
                stirred.clear()
                events = watch.read()
                if any(event.mask & inotify.FOLDER_GONE for event in events):
                    return
                self._refresh(self._named(events))
        finally:
            loop.remove_reader(watch.fileno())

    def _named(self, events: Iterable[inotify.FolderEvent]) -> list[str]:
        """The files to read again after `events`."""
        names: dict[str, None] = {}
        whole = False
        for event in events:
            if event.mask & inotify.OVERFLOW or event.name.startswith("..data"):
                whole = True  # A mounted ConfigMap changes by a swap of the link "..data".
            elif _is_ours(event.name) and not (
                event.mask & inotify.CREATE and not (self._folder / event.name).is_symlink()
            ):
                names[event.name] = None
        if whole:
            names |= dict.fromkeys([*self._listed_or_known(), *self._signatures])
        return list(names)

    def _audit(self) -> list[str]:
        """The files that changed without a word, or whose time of grace is over."""
        now = time.time_ns()
        found = []
        for name in {*self._listed_or_known(), *self._signatures}:
            signature = self._sign(name)
            settled = signature is None or now - signature[0] > SETTLED_S * 1e9
            if signature != self._signatures.get(name) and settled:
                found.append(name)
        return found

    def _changed(self, name: str) -> bool:
        return self._sign(name) != self._signatures.get(name)

    def _listed(self) -> list[str]:
        return sorted(name for name in os.listdir(self._folder) if _is_ours(name))

    def _listed_or_known(self) -> list[str]:
        """The folder may go away at any moment; that is told by its own event, and takes no file away."""
        try:
            return self._listed()
        except OSError:
            return list(self._signatures)

    def _sign(self, name: str) -> Signature | None:
        try:
            found = os.stat(self._folder / name)
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def _refresh(self, names: Iterable[str]) -> None:
        changed = False
        for name in names:
            changed |= self._read(name)
        if changed:
            self._publish()

    def _read(self, name: str) -> bool:
        """Take in one file; whether anything changed by it."""
        path = self._folder / name
        try:
            content = _content(path, name)
        except FileNotFoundError:
            return self._vanish(name)
        except FileError as error:
            return self._reject(name, error)
        self._vanished.pop(name, None)
        self._signatures[name] = self._sign(name) or (0, 0, 0)
        try:
            parsed = parse_file(name, content, self._default)
        except FileError as error:
            return self._reject(name, error)
        mended = self._problems.pop(name, None) is not None
        same = self._files.get(name) == parsed
        self._files[name], self._good[name] = parsed, content
        if mended:
            log.info("file can be used again", extra={"file": name})
        return mended or not same

    def _recall(self, name: str, content: bytes) -> None:
        """Use what a file said before it was broken; that a release reads no more is as if it had not been kept."""
        with suppress(FileError):
            self._files[name] = parse_file(name, content, self._default)
            self._good[name] = content

    def _vanish(self, name: str) -> bool:
        """Forget a file after its time of grace."""
        now = time.monotonic()
        if name in self._signatures and now - self._vanished.setdefault(name, now) < VANISH_GRACE_S * 0.9:
            return False
        self._vanished.pop(name, None)
        self._signatures.pop(name, None)
        self._good.pop(name, None)
        known = self._files.pop(name, None) is not None
        broken = self._problems.pop(name, None) is not None
        if known or broken:
            log.info("file removed", extra={"file": _shown(name)})
        return known or broken

    def _reject(self, name: str, error: FileError) -> bool:
        self._rejections.inc()
        self._signatures[name] = self._sign(name) or (0, 0, 0)
        problem = problem_of(error)
        if self._problems.get(name) == problem:
            return False
        self._problems[name] = problem
        place = {"file": _shown(name), "line": problem.place.line, "column": problem.place.column}
        log.warning("file rejected, its last good content stays", extra={**place, "reason": problem.reason})
        return True

    def _publish(self) -> None:
        self._assembly = assemble(self._files, self._assembly.owners)
        problems = tuple(sorted((*self._problems.values(), *self._assembly.problems)))
        self._known.set(len(self._files))
        self._broken.set(len(self._problems))
        if problems != self.state.value.problems:
            self.state.publish(SourceState(problems, self.state.value.folder))
        if not self.services.ready or self.services.value != self._assembly.services:
            self.services.publish(self._assembly.services)

    def _tell_folder(self, sentence: str) -> None:
        if sentence == self.state.value.folder:
            return
        if sentence:
            log.warning("services folder cannot be read, its last services stay", extra={"folder": str(self._folder)})
        else:
            log.info("services folder is back", extra={"folder": str(self._folder)})
        self.state.publish(SourceState(self.state.value.problems, sentence))


def _is_ours(name: str) -> bool:
    """YAML files; what editors leave behind begins with a dot or ends otherwise."""
    return name.endswith((".yaml", ".yml")) and not name.startswith(".")


def _shown(name: str) -> str:
    """A file's name for people and for JSON; os.listdir gives bytes that are no UTF-8 as lone surrogates."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def _content(path: Path, name: str) -> bytes:
    """The bytes of a file; raises FileNotFoundError, or FileError with a sentence for everything else."""
    if (shown := _shown(name)) != name:
        # Neither a snapshot nor an answer in JSON can hold such a name.
        raise FileError(Place(shown), "the name of this file cannot be shown", "Rename it.")
    try:
        found = path.stat()
        # Opening a pipe would wait for its other end.
        if not stat.S_ISREG(found.st_mode):
            raise FileError(Place(name), "this is not a regular file", "Put a YAML file here, or another name.")
        if found.st_size > MAX_BYTES:
            raise FileError(Place(name), f"the file has {found.st_size} bytes, more than {MAX_BYTES}", "Split it up.")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        mend = "Allow this process to read it." if error.errno in (EACCES, EPERM) else "Put a YAML file in its place."
        raise FileError(Place(name), f"the file cannot be read: {os.strerror(error.errno or 0)}", mend) from error
