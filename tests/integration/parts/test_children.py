"""Child processes: none outlives its parent, and a family that is killed as one starts nobody meanwhile."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus_kit.children import descendants, die_with_parent, freeze, send
from support.process import Process
from support.waiting import wait_until

RESTARTS_ITS_CHILD = """
import subprocess, sys
while True:
    subprocess.run([sys.executable, "-S", "-c", "import time; time.sleep(120)", sys.argv[1]], start_new_session=True)
"""


def naming(word: str) -> list[int]:
    """The living processes that carry a word on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_parent_that_restarts_its_child_leaves_none_when_both_are_killed(tmp_path: Path) -> None:
    for in_the_middle_of_a_restart in (False, True) * 5:
        with Process([sys.executable, "-S", "-c", RESTARTS_ITS_CHILD, str(tmp_path)], tmp_path / "log") as parent:
            wait_until(lambda: len(descendants(parent.pid)) == 1)
            if in_the_middle_of_a_restart:
                send(descendants(parent.pid), signal.SIGKILL)
            send(freeze([parent.pid]), signal.SIGKILL)
        wait_until(lambda: naming(str(tmp_path)) == [])


def test_a_frozen_family_stands_still_and_goes_on(tmp_path: Path) -> None:
    def states(pids: list[int]) -> set[str]:
        return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids}

    with Process([sys.executable, "-S", "-c", RESTARTS_ITS_CHILD, str(tmp_path)], tmp_path / "log") as parent:
        wait_until(lambda: len(descendants(parent.pid)) == 1)
        family = freeze([parent.pid])
        assert len(family) == 2
        # A parent waits ("D") for a child that was stopped between vfork and exec.
        wait_until(lambda: "T" in states(family) <= {"T", "D"})
        assert freeze([parent.pid]) == family
        send(family, signal.SIGCONT)
        wait_until(lambda: states(family) == {"S"})
        send(freeze([parent.pid]), signal.SIGKILL)


def test_a_child_that_is_not_yet_another_program_ends_with_its_parent_too() -> None:
    ask_the_kernel = die_with_parent()

    def right_after() -> None:
        ask_the_kernel()
        os.kill(os.getpid(), signal.SIGTERM)  # as the kernel does when the parent ends at this moment

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        ended = subprocess.run([sys.executable, "-S", "-c", ""], preexec_fn=right_after, check=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent_however_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    program = (
        "import subprocess, sys; from isthmus_kit.children import die_with_parent\n"
        "subprocess.run([sys.executable, '-S', '-c', 'import time; time.sleep(120)', sys.argv[1]],"
        " preexec_fn=die_with_parent(), start_new_session=True)\n"
    )
    with Process([sys.executable, "-c", program, str(tmp_path)], tmp_path / "log") as parent:
        wait_until(lambda: len(naming(str(tmp_path))) == 2)
        parent.send(number)
        wait_until(lambda: naming(str(tmp_path)) == [])
