"""Keep the data directory of a gateway for one process alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus_core.errors import InvalidInput
from isthmus_kit.files import make_folder, unwritable


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Keep the data directory for this process; raises InvalidInput when it cannot be written or is in use."""
    make_folder(folder)
    path = folder / "agent.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidInput(
                f"another gateway runs in {folder}", "End it first, or give this one a data directory of its own."
            ) from error
        yield
    finally:
        os.close(descriptor)
