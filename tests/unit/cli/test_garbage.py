"""Short commands do not search for garbage, long-lived ones do."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from isthmus_cli.lazy import LazyGroup
from isthmus_cli.root import root
from support.command import isthmus

_TOLD = """
import atexit, gc, sys
atexit.register(lambda: print("collects" if gc.isenabled() else "leaves it", file=sys.stderr))
from isthmus_cli.main import main
main()
"""
"""The command, which says at its end whether the collector is on."""

NOWHERE = "127.0.0.1:1"
SHORT: dict[str, list[str]] = {
    "help": ["--help"],
    "version": ["version"],
    "status": ["status"],
    "services": ["services"],
    "top": ["dns", "top", "--web", NOWHERE],
    "help of a long one": ["controller", "--help"],
}
# Each ends by itself, because what it needs is not there, but not before it has begun as what runs for long.
LONG: dict[str, list[str]] = {
    "controller": ["controller", "--data-dir", "FOLDER"],
    "gateway": ["gateway", "--data-dir", "FOLDER", "--controllers", NOWHERE],
    "dns": ["dns", "--data-dir", "FOLDER/nowhere"],
    "dns top": ["dns", "top", "--web", NOWHERE, "--watch"],
    "demo": ["demo", "--once", "--data-dir", "FOLDER"],
}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("garbage") / "home"
    assert isthmus("init", "--domain", "fed.test", "--controller", NOWHERE, home=home).returncode == 0
    return home


def _command(words: list[str], home: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _TOLD, *words],
        env={**os.environ, "ISTHMUS_HOME": str(home), "ISTHMUS_ENVOY": "/nowhere", "ISTHMUS_ETCD": "/nowhere"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("words", SHORT.values(), ids=SHORT)
def test_a_short_command_does_not_search_for_garbage(words: list[str], federation: Path) -> None:
    said = _command(words, federation).communicate(timeout=60)[1]
    assert said.splitlines()[-1] == "leaves it"


@pytest.mark.parametrize("words", LONG.values(), ids=LONG)
def test_a_long_lived_command_searches_for_garbage(words: list[str], federation: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    here = [word.replace("FOLDER", str(tmp_path / "folder")) for word in words]
    said = _command(here, federation).communicate(timeout=60)[1]
    assert said.splitlines()[-1] == "collects"


def test_a_status_that_is_watched_searches_for_garbage(federation: Path) -> None:
    with _command(["status", "--watch"], federation) as watching:
        assert watching.stderr is not None
        assert "asking again" in watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.stderr.read().splitlines()[-1] == "collects"


def _watching(group: click.Group, path: str) -> Iterator[str]:
    """The commands that go on until somebody stops them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        here = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from _watching(command, here)
        if command is not None and any(parameter.name == "watch" for parameter in command.params):
            yield here


def test_every_command_that_watches_is_among_those_that_were_tried() -> None:
    assert isinstance(root, LazyGroup)
    assert set(_watching(root, "")) == {"status", "dns top"}
