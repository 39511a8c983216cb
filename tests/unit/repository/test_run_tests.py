"""What `make check` and `make test` call: who runs which files, what is counted, and how it all ends."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from support.script import script
from support.waiting import wait_until

RUN = script("tools/run_tests.py")
SHARES: ModuleType = RUN.shares
REPORT = """<testsuites><testsuite>
<testcase classname="tests.unit.core.test_a" name="test_holds" file="tests/unit/core/test_a.py" time="0.25" />
<testcase classname="tests.unit.core.test_a" name="test_more" file="tests/unit/core/test_a.py" time="0.5" />
<testcase classname="tests.property.test_b" name="test_any" file="tests/property/test_b.py" time="1.0">
<failure message="short">assert 1 == 2
E   the last line</failure></testcase>
<testcase classname="tests.unit.core.test_c" name="test_root" file="tests/unit/core/test_c.py" time="0.0">
<skipped message="root" /></testcase>
</testsuite></testsuites>"""


def test_each_share_has_about_as_much_to_do_and_every_file_is_in_one() -> None:
    took_s = {f"tests/unit/test_{n}.py": float(n) for n in range(1, 30)}
    lists = SHARES.share_out(took_s, took_s, 3)
    assert sorted(file for share in lists for file in share) == sorted(took_s)
    loads = [sum(took_s[file] for file in share) for share in lists]
    assert max(loads) - min(loads) <= 1


def test_a_file_that_is_new_counts_as_what_its_kind_takes() -> None:
    took_s = {"tests/unit/test_a.py": 1.0, "tests/unit/test_b.py": 3.0, "tests/property/test_c.py": 9.0, "null": 7.0}
    assert SHARES.weight_of("tests/unit/test_new.py", took_s) == 2.0
    assert SHARES.weight_of("tests/property/test_new.py", {}) > SHARES.weight_of("tests/unit/test_new.py", {})


def test_no_share_is_empty() -> None:
    assert SHARES.share_out(["tests/unit/test_a.py"], {}, 2) == [["tests/unit/test_a.py"]]


def test_what_was_not_tried_this_time_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    assert SHARES.remembered(path) == {}
    SHARES.remember(path, {"tests/unit/a.py": 1.0, "tests/unit/b.py": 2.0})
    SHARES.remember(path, {"tests/unit/a.py": 3.0})
    assert SHARES.remembered(path) == {"tests/unit/a.py": 3.0, "tests/unit/b.py": 2.0}
    path.write_text('{"half a li')
    assert SHARES.remembered(path) == {}


def test_a_report_is_counted_by_kind(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    outcome = RUN.read("a share", tmp_path / "report.xml")
    assert outcome.counts == {"unit": RUN.Count(2, 0, 1, 0.75), "property": RUN.Count(0, 1, 0, 1.0)}
    assert outcome.failures == ["tests.property.test_b.test_any: E   the last line"]
    assert outcome.took_s["tests/unit/core/test_a.py"] == 0.75


@pytest.mark.parametrize(("status", "failed"), [(0, 0), (5, 0), (2, 1), (-9, 1)])
def test_a_share_that_ends_without_a_word_has_failed(status: int, failed: int, tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text("<testsuites />")
    end = ("python", "-c", f"import os; os.kill(os.getpid(), {-status}) if {status} < 0 else os._exit({status})")
    outcome = RUN.Part("a share", (end,), tmp_path / "report.xml").run(RUN.Commands())
    assert sum(count.failed for count in outcome.counts.values()) == failed
    assert len(outcome.failures) == failed


def test_a_gate_speaks_only_when_it_does_not_hold() -> None:
    holds, breaks = (
        RUN.Part("gate", (("python", "-c", f"print('words'); raise SystemExit({status})"),)).run(RUN.Commands())
        for status in (0, 1)
    )
    assert (holds.counts["gate"].passed, holds.output) == (1, "")
    assert (breaks.counts["gate"].failed, breaks.output) == (1, "words\n")


def test_who_does_not_stop_in_time_is_killed_and_nothing_begins_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUN, "PATIENCE_S", 0.2)
    told = tmp_path / "deaf"
    deaf = f"import pathlib, signal, time; signal.signal(2, signal.SIG_IGN); pathlib.Path({str(told)!r}).touch()"
    commands, statuses = RUN.Commands(), []
    command = ("python", "-c", f"{deaf}; time.sleep(60)")
    running = threading.Thread(target=lambda: statuses.append(commands.run(command, live=False)[0]))
    running.start()
    wait_until(told.exists)
    commands.stop()
    running.join(10)
    assert statuses == [-signal.SIGKILL]
    with pytest.raises(RUN.Stopped):
        commands.run(("python", "--version"), live=False)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the same tool and other tests."""
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    for name in ("run_tests.py", "shares.py"):
        shutil.copy(RUN.ROOT / "tools" / name, tmp_path / "tools")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def started(clone: Path) -> "subprocess.Popen[str]":
    program = [str(clone / ".venv/bin/python"), str(clone / "tools/run_tests.py"), "unit"]
    bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(program, env=bare, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_share_that_fails_fails_the_whole_and_its_failure_is_the_end_of_the_output(clone: Path) -> None:
    for name, value in (("holds", 1), ("breaks", 2)):
        (clone / f"tests/unit/test_{name}.py").write_text(f"def test_it():\n    assert {value} == 1, 'a reason'\n")
    with started(clone) as run:
        said = run.communicate(timeout=60)[0]
    assert run.returncode == 1
    assert "== unit 1 of 2: " in said and "== unit 2 of 2: " in said
    assert (
        "FAILED tests.unit.test_breaks.test_it: tests/unit/test_breaks.py:2: AssertionError" in said.splitlines()[-5:]
    )
    assert said.endswith("\n1 passed, 1 failed, 0 skipped\n")
    assert list((clone / "tests/unit/__pycache__").glob("test_*.pyc")), "the next run rewrites the asserts anew"
    assert set(SHARES.remembered(clone / "build/tests/seconds.json")) == {
        "tests/unit/test_breaks.py",
        "tests/unit/test_holds.py",
    }


WAITS = """
import pathlib, subprocess, pytest
@pytest.fixture
def child():
    with subprocess.Popen(["sleep", "30"]) as child:
        yield child
        child.kill()
def test_waits(child):
    pathlib.Path(__file__).with_suffix(".pid").write_text(str(child.pid))
    child.wait()
"""


def test_ctrl_c_ends_both_shares_and_what_their_tests_started(clone: Path) -> None:
    names = ("one", "two")
    for name in names:
        (clone / f"tests/unit/test_{name}.py").write_text(WAITS)
    told = [clone / f"tests/unit/test_{name}.pid" for name in names]
    with started(clone) as run:
        wait_until(lambda: all(path.exists() and path.read_text() for path in told), 20)
        pids = [path.read_text() for path in told]
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=30)[0]
    assert run.returncode == 130
    assert said.splitlines()[1:] == ["stopped, and all that was running has ended"]
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
