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
    finally:
        shell.close()
