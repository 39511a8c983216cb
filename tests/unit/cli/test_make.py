"""`make` says in one sentence what it needs and what there is to make."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


def _make(*words: str, path: str) -> "subprocess.CompletedProcess[str]":
    command = [shutil.which("make") or "make", "-f", str(REPOSITORY / "Makefile"), *words]
    variables = {**os.environ, "PATH": path, "MAKEFLAGS": "", "PYTHON": "python3"}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("target", ["demo", "env"])
def test_a_machine_without_python_is_told_what_is_missing(target: str, tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    done = _make(target, path=str(tmp_path))
    assert done.returncode == 2
    said = done.stderr.splitlines()[0]
    assert said.startswith("error: there is no python3; Isthmus needs Python 3.11 or newer")
    assert "make PYTHON=/path/to/python3" in said


def test_a_target_that_there_is_not_leads_to_the_list(tmp_path: Path) -> None:
    done = _make("tset", path=os.environ["PATH"])
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is nothing called 'tset' to make; 'make help' lists")
