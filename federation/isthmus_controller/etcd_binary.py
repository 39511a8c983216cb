"""Find an etcd that can be trusted with data: the one that was named, our own, or a new enough one on PATH."""

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
    """The etcd to run: ISTHMUS_ETCD, the one beside this Python, or one on PATH that is new enough."""
    named = os.environ.get("ISTHMUS_ETCD")
    if named:
        if not os.access(named, os.X_OK) or not Path(named).is_file():
            raise InvalidInput(f"ISTHMUS_ETCD names {named}, which is not a program", BINARY_MEND)
        return Path(named).absolute()
    beside = Path(sys.executable).with_name("etcd")
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("etcd")
    if found is None:
        raise InvalidInput("no etcd was found", BINARY_MEND)
    version = _version_of(found)
    if version < OLDEST:
        raise InvalidInput(f"{found} is etcd {'.'.join(map(str, version))}, which can lose data", BINARY_MEND)
    return Path(found).absolute()


def _version_of(binary: str) -> tuple[int, ...]:
    try:
        shown = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidInput(f"{binary} cannot be run: {error}", BINARY_MEND) from error
    numbers = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", shown)
    if numbers is None:
        raise InvalidInput(f"{binary} does not say which etcd it is", BINARY_MEND)
    return tuple(int(number) for number in numbers.groups())
