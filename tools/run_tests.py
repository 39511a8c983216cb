"""Run the gates and the tests, kind by kind, and say at the end how many of each passed.

`quick`: format, lint, types, layers, unit, property. `all`: the same, then integration, e2e and fault.
A kind that fails does not stop the others; the exit status is 1 if anything failed. The last line is the whole count.
"""

import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
REPORTS = ROOT / "build" / "tests"
QUICK = ("unit", "property")
ALL = (*QUICK, "integration", "e2e", "fault")
GATES: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("format", (("ruff", "format", "--check", "--quiet", "."),)),
    ("lint", (("ruff", "check", "--quiet", "."),)),
    ("types", (("python", "tools/stubs.py"), ("mypy",))),
    ("layers", (("lint-imports", "--no-logo"),)),
)


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.seconds + other.seconds,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def gate(commands: tuple[tuple[str, ...], ...]) -> Count:
    """One gate: quiet when it holds, its own words when it does not."""
    for program, *arguments in commands:
        done = subprocess.run(
            [str(BIN / program), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            print(done.stdout + done.stderr, flush=True)
            return Count(failed=1)
    return Count(passed=1)


def kind(name: str, options: list[str]) -> Count:
    """All tests of one folder, in a pytest run of their own; counted from the report it writes."""
    folder = ROOT / "tests" / name
    if not any(folder.rglob("test_*.py")):
        return Count()
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [
        str(BIN / "python"),
        "-m",
        "pytest",
        "-q",
        "--no-showlocals",
        f"--junit-xml={report}",
        str(folder),
        *options,
    ]
    status = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
    count = Count(failed=1) if not report.exists() else counted(report)
    if status not in (0, 5) and count.failed == 0:
        count.failed = 1  # pytest itself stopped: the report cannot be trusted to say so
    return count


def counted(report: Path) -> Count:
    count = Count()
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = {part.tag for part in case}
        if outcome & {"failure", "error"}:
            count.failed += 1
        elif "skipped" in outcome:
            count.skipped += 1
        else:
            count.passed += 1
    return count


def timed(title: str, work: Callable[[], Count]) -> Count:
    print(f"== {title}", flush=True)
    started = time.monotonic()
    count = work()
    count.seconds = time.monotonic() - started
    return count


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else "all"
    kinds = {"quick": QUICK, "all": ALL}.get(wanted) or tuple(wanted.split(","))
    options = ["-m", "not slow"] if wanted == "quick" else []
    print(f"environment: {BIN.parent.relative_to(ROOT)}/ (Python {sys.version.split()[0]})", flush=True)
    counts: dict[str, Count] = {}
    if wanted in ("quick", "all"):
        for title, commands in GATES:
            counts[title] = timed(title, partial(gate, commands))
    for name in kinds:
        counts[name] = timed(name, partial(kind, name, [*options, *sys.argv[2:]]))
    total = sum(counts.values(), Count())
    print("\n" + "\n".join(f"{name:<12} {count.seconds:7.1f} s  {count}" for name, count in counts.items()))
    if total.passed == 0:
        total.failed += 1  # nothing ran: that is no success
    print(f"{'':<12} {total.seconds:7.1f} s in all\n\n{total}", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
