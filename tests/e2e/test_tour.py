"""Every command of docs/tour.md works and shows what the page says."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from support.tour import Shell, blocks, follow

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("dig"), reason="the tour needs dig (Debian: bind9-dnsutils)")
def test_the_tour_works_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_HOME")}
    shell = Shell(tmp_path, environment)
    steps = list(blocks(ROOT / "docs" / "tour.md"))
    assert len(steps) > 15
    try:
        for block in steps:
            follow(shell, block)
        _, left = shell.run("jobs")
        assert left.strip() == ""
    finally:
        shell.close()
