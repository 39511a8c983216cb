"""Every command of docs/tour.md works and shows what the page says."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.tour import Shell, blocks, follow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for the names of unix sockets (107 bytes), as a checkout's does."""
    with TemporaryDirectory(prefix="tour-") as folder:
        yield Path(folder)


def what_was_logged(folder: Path) -> str:
    """The end of each program's log: the page sends them into files, and the folder goes with the test."""
    tails = ((path.name, path.read_text(errors="replace").splitlines()[-3:]) for path in sorted(folder.glob("*.log")))
    return "\n".join(f"{name}: {line}" for name, tail in tails for line in tail)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("dig"), reason="the tour needs dig (Debian: bind9-dnsutils)")
def test_the_tour_works_as_it_is_written(short_path: Path) -> None:
    (short_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_HOME")}
    shell = Shell(short_path, environment)
    steps = list(blocks(ROOT / "docs" / "tour.md"))
    assert len(steps) > 15
    try:
        for block in steps:
            follow(shell, block)
        _, left = shell.run("jobs")
        assert left.strip() == ""
    except AssertionError as failed:
        failed.add_note(what_was_logged(short_path / "build" / "tour"))
        raise
    finally:
        shell.close()
