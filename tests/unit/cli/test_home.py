"""A home folder that cannot be one is named by every command in one sentence with its mend."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import isthmus

COMMANDS = [
    "init --domain fed.example",
    "status",
    "cluster list",
    "cluster register west --locality a/b/c",
    "gateway",
    "gateway --cluster west",
    "controller",
    "dns",
    "export shop/echo",
    "unexport shop/echo --cluster west",
]
RIGHTS = "-dac_override,-dac_read_search"
ORDINARY = ["setpriv", "--bounding-set", RIGHTS, "--inh-caps", RIGHTS] if os.geteuid() == 0 else []
"""What makes root heed the modes of files (capabilities(7))."""


def ordinarily(words: str, home: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user who may not read everything."""
    if ORDINARY and not shutil.which("setpriv"):
        pytest.skip("without setpriv (util-linux) root may read everything")
    return subprocess.run(
        [*ORDINARY, sys.executable, "-m", "isthmus_cli.main", *words.split()],
        env={**os.environ, "ISTHMUS_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def federation(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    assert isthmus("init", "--domain", "fed.example", home=home).returncode == 0
    (home / "clusters" / "west" / "services").mkdir(parents=True)
    return home


@pytest.mark.parametrize("words", COMMANDS)
def test_a_home_that_is_no_folder_is_named_with_the_way_out(words: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in ("/dev/null", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        done = isthmus("--home", home, *words.split(), home=tmp_path)
        told = f"Error: the home folder {home} cannot be used: not a directory. Name another folder with --home or "
        assert (done.returncode, done.stderr) == (1, f"{told}ISTHMUS_HOME.\n")


def test_doctor_names_such_a_home_among_the_rest(tmp_path: Path) -> None:
    done = isthmus("--home", "/dev/null", "--output", "json", "doctor", home=tmp_path)
    home = next(one for one in json.loads(done.stdout) if one["check"] == "home")
    assert home["result"] == "failed" and "Name another folder" in home["mend"]


def test_an_empty_home_is_not_taken_for_the_current_folder(tmp_path: Path) -> None:
    done = isthmus("--home", "", "status", home=tmp_path)
    assert done.returncode == 2
    assert "'--home': it is empty. Name a folder, or leave it out." in done.stderr


@pytest.mark.parametrize("words", ["init --domain fed.example", "status", "gateway"])
def test_a_home_that_may_not_be_entered_is_named_with_the_way_out(words: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o000)
    done = ordinarily(words, home)
    assert f"the home folder {home} cannot be used: permission denied. Give this user the right" in done.stderr
    assert done.returncode == 1 and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "locked"),
    [
        ("status", "controller"),
        ("controller", "controller"),
        ("gateway", "clusters"),
        ("gateway", "clusters/west"),
        ("export shop/echo", "clusters/west"),
    ],
)
def test_parts_of_a_home_that_may_not_be_read_are_named(words: str, locked: str, federation: Path) -> None:
    (federation / locked).chmod(0o000)
    done = ordinarily(words, federation)
    (federation / locked).chmod(0o700)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "permission denied. Give this user the right to" in done.stderr


def test_doctor_goes_on_where_it_may_not_read(federation: Path) -> None:
    (federation / "controller").chmod(0o000)
    (federation / "clusters" / "west").chmod(0o000)
    done = ordinarily("doctor --output json", federation)
    for locked in (federation / "controller", federation / "clusters" / "west"):
        locked.chmod(0o700)
    assert done.stderr == ""
    mends = {one["check"]: one["mend"] for one in json.loads(done.stdout) if one["result"] == "failed"}
    assert {"admin credential", "root certificate", "west: gateway"} <= mends.keys()
    assert set(mends.values()) == {"Give this user the right to read it."}
