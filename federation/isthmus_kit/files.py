"""Write files so that a crash, a full disk or a missing right leaves the old content or the new, never a part."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from isthmus_core.errors import InvalidInput, IsthmusError, Unavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MENDS = {
    errno.EACCES: "Give this user the right to write there, or choose another folder.",
    errno.EPERM: "Give this user the right to write there, or choose another folder.",
    errno.EROFS: "Choose a folder on a file system that can be written.",
    errno.ENOENT: "Make the folder first, or choose another.",
    errno.ENOTDIR: "Choose a path whose parents are folders.",
    errno.EISDIR: "A folder stands there: remove it, or choose another path.",
    errno.ENAMETOOLONG: "Choose a shorter path.",
}


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put `content` at `path` in one step and make it durable; the old file stays until the new one is complete.

    Raises InvalidInput when the place cannot be written, Unavailable when the disk is full.
    """
    # The name is new each time: two writers never share a half-written file, and a leftover never blocks anybody.
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
        except BaseException:
            with suppress(OSError):
                fresh.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def make_folder(path: Path, mode: int = 0o700) -> None:
    """Make `path` and its parents when they are missing, and see that it can be written; raises InvalidInput."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InvalidInput(f"{path} is a file, not a folder", "Remove it, or choose another path.") from error
    except OSError as error:
        raise unwritable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def check_writable(path: Path) -> None:
    """Raise InvalidInput when `write_file` could not write `path`."""
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{path} is not a file", "Choose a path where nothing or a file stands.")
    for problem, there in (
        (errno.ENOENT, path.parent.exists()),
        (errno.ENOTDIR, path.parent.is_dir()),
        (errno.EACCES, os.access(path.parent, os.W_OK | os.X_OK)),
    ):
        if not there:
            raise unwritable(path, OSError(problem, os.strerror(problem)))


def read_file(path: Path, what: str, mend: str) -> bytes:
    """The content of `path`; raises InvalidInput that says that `what` is missing or cannot be read, with the mend.

    What only may not be read need not be made anew.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInput(f"{what} is missing: there is no {path}", mend) from error
    except OSError as error:
        right = "Give this user the right to read it." if isinstance(error, PermissionError) else ""
        raise InvalidInput(f"{what} cannot be read: {path}: {_reason(error)}", right or mend) from error


def unwritable(path: Path, error: OSError) -> IsthmusError:
    """Why `path` cannot be written, in a sentence with its mend."""
    if error.errno in _FULL:
        return Unavailable(
            f"{path} cannot be written: the disk is full", "Free some space; what was there before is still there."
        )
    return InvalidInput(
        f"{path} cannot be written: {_reason(error)}", _MENDS.get(error.errno or 0, "Choose another folder.")
    )


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the entry lives in the folder, not in the file (fsync(2), notes)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
