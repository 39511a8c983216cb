"""Run the isthmus command as a person does: a process of its own, with its own home."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def isthmus(
    *words: str, home: Path, env: Mapping[str, str] | None = None, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end; standard input is `stdin`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_") or name in _KEPT}
    return subprocess.run(
        [sys.executable, "-m", "isthmus_cli.main", *words],
        env={**clean, "ISTHMUS_HOME": str(home), "COLUMNS": "120", **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


_KEPT = ("ISTHMUS_ETCD", "ISTHMUS_ENVOY")
