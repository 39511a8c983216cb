"""Run the isthmus command as a person does: a process of its own, with its own home."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.warm_command import WarmCommand

_KEPT = ("ISTHMUS_ETCD", "ISTHMUS_ENVOY")
TIMEOUT_S = 60
_warm: list[WarmCommand] = []


def isthmus(
    *words: str, home: Path, env: Mapping[str, str] | None = None, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end; standard input is `stdin`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_") or name in _KEPT}
    environment = {**clean, "ISTHMUS_HOME": str(home), "COLUMNS": "120", **(env or {})}
    if _warm:
        return _warm[-1].run(words, environment, stdin, TIMEOUT_S)
    return subprocess.run(
        [sys.executable, "-m", "isthmus_cli.main", *words],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def completed(line: str, home: Path) -> "subprocess.CompletedProcess[str]":
    """What bash is told when Tab is pressed at the end of `line`: `plain,<word>` on each line of standard output."""
    words = [*line.split(), ""] if line.endswith(" ") else line.split()
    variables = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    return isthmus(home=home, env={**variables, "_ISTHMUS_COMPLETE": "bash_complete"})


@contextmanager
def warm() -> Iterator[None]:
    """Meanwhile `isthmus` does not import anew for each command: for tests of what many commands say."""
    with WarmCommand() as command:
        _warm.append(command)
        yield
        _warm.remove(command)
