"""`isthmus demo` tells its whole story, loses nothing, and leaves nothing behind."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus_cli.demo.world import claim_network
from support.leaks import children
from support.waiting import wait_until

pytestmark = pytest.mark.slow


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "isthmus_cli.main", "demo", "--data-dir", str(folder), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left_in(folder: Path, file: str = "cmdline") -> list[str]:
    """Command lines (or another file of proc(5)) of the processes whose environment names the demo's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append((path.parent / file).read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def states_in(folder: Path) -> list[str]:
    return left_in(folder, "status")


def test_the_demo_loses_nothing_and_prints_one_object(tmp_path: Path) -> None:
    with start(tmp_path / "demo", "--once", "--output", "json") as demo:
        out, err = demo.communicate(timeout=180)
    assert demo.returncode == 0, err
    report = json.loads(out)
    assert report["clusters"] == 3
    assert report["services"] == 2
    assert report["requests"] > 1000
    assert (report["lost"], report["dns_wrong"]) == (0, 0)
    assert report["dns_queries"] > 100
    assert set(report["failover_ms"]) >= {"backend killed", "backend frozen", "cluster killed", "cluster frozen"}
    assert str(tmp_path / "demo") in err
    assert left_in(tmp_path / "demo") == []


def test_an_interrupted_demo_ends_everything_that_it_started(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    demo = start(folder, "--output", "json")
    try:
        wait_until(lambda: len(left_in(folder)) >= 3, within=60)
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 130
    wait_until(lambda: left_in(folder) == [], within=10)


def test_a_killed_demo_takes_its_processes_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    demo = start(folder, "--output", "json")
    wait_until(lambda: sum("envoy" in one for one in left_in(folder)) == 3, within=60)
    demo.kill()
    demo.communicate(timeout=60)
    wait_until(lambda: left_in(folder) == [], within=20)
    assert demo.pid not in children()


def test_a_demo_that_is_killed_while_a_cluster_is_frozen_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    demo = start(folder, "--output", "json")
    wait_until(lambda: any("T (stopped)" in state for state in states_in(folder)), within=120)
    demo.kill()
    demo.communicate(timeout=60)
    wait_until(lambda: left_in(folder) == [], within=20)


def test_two_demos_that_start_together_choose_different_addresses() -> None:
    first, one = claim_network()
    second, other = claim_network()
    with first, second:
        assert one != other


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with start(tmp_path) as demo:
        _, err = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert "is not empty" in err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
