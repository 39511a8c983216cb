"""Whenever it is stopped and wherever its output goes, the command ends as a person expects, without a traceback."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus_cli.commands.demo import _check_length
from isthmus_core.errors import InvalidInput
from support.command import isthmus

_PRESSED = """
import os, signal, sys
class Pressed:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Pressed())
from isthmus_cli.main import main
main()
"""
"""The command, with Ctrl-C pressed at the moment when it begins to import `module`."""

WITHOUT_TRACEBACK = [
    ("isthmus_cli.garbage", ["--help"], -2, ""),
    ("click", ["status"], -2, ""),
    ("isthmus_cli.root", ["--help"], -2, ""),
    ("isthmus_cli.commands.status", ["status"], 130, "Stopped."),
    ("isthmus_controller.controller", ["controller"], 130, "Stopped."),
    ("isthmus_gateway.join", ["cluster", "join"], 130, "Stopped."),
]


@pytest.mark.parametrize(("module", "words", "status", "said"), WITHOUT_TRACEBACK)
def test_an_interrupt_while_modules_are_imported_shows_no_traceback(
    module: str, words: list[str], status: int, said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PRESSED.format(module=module), *words],
        env={**os.environ, "ISTHMUS_HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert said in done.stderr


def test_a_background_job_that_ignores_interrupts_goes_on_ignoring_them(tmp_path: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" + _PRESSED.format(module="click")
    done = subprocess.run([sys.executable, "-c", ignoring, "--help"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0


def _run(words: str, home: Path) -> "subprocess.CompletedProcess[str]":
    """Run the command in a shell that redirects it."""
    return subprocess.run(
        ["sh", "-c", words.replace("isthmus", f"{sys.executable} -m isthmus_cli.main")],
        env={**os.environ, "ISTHMUS_HOME": str(home), "ISTHMUS_CONTROLLER": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("isthmus version >&-", 0),
        ("isthmus doctor >&-", 1),
        ("isthmus doctor >&- 2>&- <&-", 1),
        ("isthmus cluster join <&-", 1),
        ("isthmus cluster remove west <&-", 2),
    ],
)
def test_streams_that_are_closed_are_no_bug(words: str, status: int, tmp_path: Path) -> None:
    assert isthmus("init", "--domain", "fed.example", home=tmp_path).returncode == 0
    done = _run(words, tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stderr


def test_a_reader_that_went_away_is_not_told_of(tmp_path: Path) -> None:
    done = _run("{ isthmus version; echo status $? >&2; } | true", tmp_path)
    assert done.stderr in ("status 1\n", "status 0\n")  # 0 when all was written before the reader went


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_terminals_that_have_it(variables: dict[str, str], coloured: bool, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    command = [sys.executable, "-m", "isthmus_cli.main", "doctor"]
    variables = {"TERM": "xterm", "ISTHMUS_HOME": str(tmp_path), **variables}
    subprocess.run(command, env={**environment, **variables}, stdout=slave, timeout=60, check=False)
    os.close(slave)
    shown = os.read(master, 65536)
    os.close(master)
    assert b"program envoy" in shown
    assert (b"\x1b[" in shown) is coloured


def test_a_demo_whose_sockets_could_not_be_named_ends_before_it_begins(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 80)
    done = isthmus("demo", "--once", "--data-dir", str(folder), home=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: the path {folder} is too long") and done.stderr.count("\n") == 1
    assert not folder.exists()
    _check_length(Path("/tmp") / ("x" * 60))
    with pytest.raises(InvalidInput, match="too long"):
        _check_length(Path("/tmp") / ("x" * 71))
