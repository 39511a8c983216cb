"""Find an etcd that can be trusted with data: the one that was named, a new enough one on PATH, or our own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from isthmus_core.errors import InvalidInput

OLDEST = (3, 5, 4)
"""Older 3.5 releases can lose data (etcd's post-mortem of March 2022)."""

BINARY_MEND = "Put the path of an etcd binary into ISTHMUS_ETCD, or install etcd 3.5.4 or newer."


def find_etcd() -> Path:
    """The etcd to run: ISTHMUS_ETCD, the one on PATH if it is new enough, or the one beside this Python."""
    named = os.environ.get("ISTHMUS_ETCD")
    if named:
        if not os.access(named, os.X_OK) or not Path(named).is_file():
            raise InvalidInput(f"ISTHMUS_ETCD names {named}, which is not a program", BINARY_MEND)
        return Path(named).absolute()
    # As `make env` and as Envoy is looked for: what the machine has comes before what was built for it (DESIGN 12).
    found, beside = shutil.which("etcd"), Path(sys.executable).with_name("etcd")
    own = beside if os.access(beside, os.X_OK) else None
    if found is None or (own and Path(found).absolute() == own):
        if own is None:
            raise InvalidInput("no etcd was found", BINARY_MEND)
        return own
    try:
        return _new_enough(Path(found).absolute())
    except InvalidInput:
        if own is None:
            raise
        return own


def _new_enough(binary: Path) -> Path:
    version = _version_of(binary)
    if version < OLDEST:
        raise InvalidInput(f"{binary} is etcd {'.'.join(map(str, version))}, which can lose data", BINARY_MEND)
    return binary


def _version_of(binary: Path) -> tuple[int, ...]:
    try:
        shown = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidInput(f"{binary} cannot be run: {error}", BINARY_MEND) from error
    numbers = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", shown)
    if numbers is None:
        raise InvalidInput(f"{binary} does not say which etcd it is", BINARY_MEND)
    return tuple(int(number) for number in numbers.groups())
