"""How long a person waits for the command: `--help`, and `status` of a running federation."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from support.bench import Row
from support.federation import RunningController

NAME = "cli"
RUNS = 15
TARGET_MS = 150.0


def _milliseconds(words: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - start) * 1000


def rows() -> list[Row]:
    """Medians of interleaved runs; the reference is the same interpreter doing nothing."""
    with TemporaryDirectory() as folder, RunningController(Path(folder)) as controller:
        isthmus = str(Path(sys.executable).with_name("isthmus"))
        asked = {"help": [isthmus, "--help"], "status": [isthmus, "status"], "floor": [sys.executable, "-c", "pass"]}
        # As a person has it: modules are compiled when they are first used, and not each time.
        environment = {k: v for k, v in controller.environment.items() if k != "PYTHONDONTWRITEBYTECODE"}
        for words in asked.values():
            _milliseconds(words, environment)
        taken: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(RUNS):
            for name, words in asked.items():
                taken[name].append(_milliseconds(words, environment))
    floor = median(taken["floor"])
    return [
        Row(
            name=f"isthmus {'--help' if name == 'help' else name}, p50",
            value=round(median(taken[name]), 1),
            unit="ms",
            target=f"<= {TARGET_MS:.0f} ms",
            reference="python -c pass",
            reference_value=round(floor, 1),
            ratio=round(median(taken[name]) / floor, 2),
            ok=median(taken[name]) <= TARGET_MS,
        )
        for name in ("help", "status")
    ]
