"""Find the real parts, Envoy and etcd, for `version` and `doctor` as the processes that start them do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from isthmus_core.errors import InvalidInput


def find_part(name: str) -> Path | None:
    """The `envoy` or `etcd` that would be started; None when none would be."""
    return _etcd() if name == "etcd" else _envoy()


def _etcd() -> Path | None:
    from isthmus_controller.etcd_binary import find_etcd

    try:
        return find_etcd()
    except InvalidInput:
        return None


def _envoy() -> Path | None:
    """As `isthmus_gateway.envoy.find_envoy`, whose package imports gRPC: as named, on PATH, beside the interpreter."""
    if given := os.environ.get("ISTHMUS_ENVOY"):
        return Path(given) if os.access(given, os.X_OK) else None
    found = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))
    return Path(found) if found else None


def part_version(path: Path) -> str:
    """The version that a program prints of itself; empty when it does not run."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+\.\d+\.\d+", done.stdout)
    return found.group() if found else ""
