"""The environment on machines that lack something: one sentence says what, and nothing is left half done."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOBODY = "http://127.0.0.1:9"  # the discard port: connections are refused


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def bootstrap(clone: Path, **env: str) -> tuple[int, list[str], str]:
    run = subprocess.run(
        [sys.executable, "tools/bootstrap.py"],
        cwd=clone,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stderr.splitlines(), run.stdout


def test_without_a_network_one_sentence_says_so(clone: Path) -> None:
    proxies = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), NOBODY)
    status, said, printed = bootstrap(
        clone, **proxies, PIP_NO_CACHE_DIR="1", PATH=f"{etcd_of(clone, '3.6.1')}:{os.environ['PATH']}"
    )
    assert status == 1
    assert said[-1].startswith(
        "environment: the package index cannot be reached: check the network or the proxy settings"
    )
    assert "Traceback" not in "\n".join(said)
    assert printed == "", "standard output belongs to the command that make runs afterwards"
    assert not (clone / ".venv" / "isthmus.stamp").exists()


def test_a_lock_without_hashes_is_refused(clone: Path) -> None:
    (clone / "requirements-dev.txt").write_text("click==8.5.1\n")
    status, said, _ = bootstrap(clone, PATH=f"{etcd_of(clone, '3.6.1')}:{os.environ['PATH']}")
    assert status == 1
    assert said[-1].startswith("environment: the packages cannot be installed (details: .tools/log/packages.txt)")
    assert any(line.startswith("  etcd: 3.6.1 from PATH") for line in said)


def etcd_of(clone: Path, version: str) -> Path:
    """A folder with a program that says it is this etcd."""
    program = clone / "elsewhere" / "etcd"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
    program.chmod(0o755)
    return program.parent


def test_an_old_python_is_told_what_is_needed(clone: Path) -> None:
    source = clone / "tools" / "bootstrap.py"
    source.write_text(source.read_text().replace("OLDEST_PYTHON = (3, 11)", "OLDEST_PYTHON = (3, 99)"))
    status, said, _ = bootstrap(clone)
    assert status == 1
    assert len(said) == 1
    assert said[0].startswith("environment: Python 3.11 or newer is needed and this is 3.")


@pytest.mark.skipif(not (ROOT / ".venv" / "isthmus.stamp").exists(), reason="the environment was not made by make")
def test_up_to_date_means_less_than_a_second_of_work() -> None:
    before = os.times()
    run = subprocess.run([sys.executable, "tools/bootstrap.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stderr == "environment: .venv/ is up to date\n"
    after = os.times()
    work = after.children_user + after.children_system - before.children_user - before.children_system
    assert work < 1.0
