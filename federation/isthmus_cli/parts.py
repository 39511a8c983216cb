"""Find the real parts, Envoy and etcd, the same way for `version` and `doctor` as the processes do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def find_part(name: str) -> Path | None:
    """The program `name`: ISTHMUS_<NAME>, then PATH, then beside the interpreter."""
    if given := os.environ.get(f"ISTHMUS_{name.upper()}"):
        return Path(given) if os.access(given, os.X_OK) else None
    if found := shutil.which(name):
        return Path(found)
    beside = Path(sys.executable).parent / name
    return beside if os.access(beside, os.X_OK) else None


def part_version(path: Path) -> str:
    """The version that a program prints of itself; empty when it does not run."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+\.\d+\.\d+", done.stdout)
    return found.group() if found else ""
