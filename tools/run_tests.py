"""Run the gates and the tests, kind by kind, and say at the end how many of each passed.

`quick`: format, lint, types, layers, unit, property. `all`: the same, then integration, e2e and fault.
A kind that fails does not stop the others; the exit status is 1 if anything failed. The last line is the whole count.
"""

import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
REPORTS = ROOT / "build" / "tests"
STARTED = time.monotonic()
QUICK = ("property", "unit")
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


@dataclass(frozen=True)
class Part:
    """One gate or one kind of tests: what to run, and how to count what came of it."""

    title: str
    commands: tuple[tuple[str, ...], ...]
    report: Path | None = None

    def run(self, live: bool) -> tuple[Count, str]:
        """Run it; its output goes to the terminal if `live`, else it is given back."""
        started = time.monotonic()
        output = ""
        status = 0
        for program, *arguments in self.commands:
            done = subprocess.run(
                [str(BIN / program), *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=None if live else subprocess.PIPE,
                stderr=None if live else subprocess.STDOUT,
                text=True,
                check=False,
            )
            output += done.stdout or ""
            status = status or done.returncode
        count = self._count(status)
        count.seconds = time.monotonic() - started
        if self.report is None and not status:
            output = ""  # a gate that holds has nothing to say
        return count, output

    def _count(self, status: int) -> Count:
        if self.report is None:
            return Count(failed=1) if status else Count(passed=1)
        count = counted(self.report) if self.report.exists() else Count()
        if status not in (0, 5) and count.failed == 0:
            count.failed = 1  # pytest itself stopped: the report does not say so
        return count


def tests(kind: str, options: list[str]) -> Part:
    """All tests of one folder, in a pytest run of their own; counted from the report it writes."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{kind}.xml"
    report.unlink(missing_ok=True)
    folder = ROOT / "tests" / kind
    if not any(folder.rglob("test_*.py")):
        return Part(kind, (), report)
    command = (
        "python",
        "-m",
        "pytest",
        "-q",
        "--no-showlocals",
        "-o",
        "junit_family=xunit1",
        f"--junit-xml={report}",
        str(folder),
        *options,
    )
    return Part(kind, (command,), report)


def failures(report: Path) -> list[str]:
    """The last line of each failure, below the name of its test."""
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        for part in case:
            if part.tag in ("failure", "error"):
                words = [line for line in (part.text or part.get("message") or "").splitlines() if line.strip()]
                found.append(f"{case.get('classname')}.{case.get('name')}: {words[-1].strip() if words else '?'}")
    return found


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


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else "all"
    kinds = {"quick": QUICK, "all": ALL}.get(wanted) or tuple(wanted.split(","))
    options = [*(["-m", "not slow"] if wanted == "quick" else []), *sys.argv[2:]]
    print(f"environment: {BIN.parent.relative_to(ROOT)}/ (Python {sys.version.split()[0]})", flush=True)
    parts = [tests(kind, options) for kind in kinds]
    counts: dict[str, Count] = {}
    # Gates, unit and property tests measure no time and share no ports: two at once, the long ones first.
    quick = [part for part in parts if part.title in QUICK]
    quick += [Part(title, commands) for title, commands in GATES] if wanted in ("quick", "all") else []
    with ThreadPoolExecutor(2) as pool:
        for part, (count, output) in zip(quick, pool.map(lambda part: part.run(live=False), quick), strict=True):
            print(f"== {part.title}: {count} ({count.seconds:.1f} s)\n{output}", end="", flush=True)
            counts[part.title] = count
    for part in parts:
        if part not in quick:
            print(f"== {part.title}", flush=True)
            counts[part.title], _ = part.run(live=True)
    total = sum(counts.values(), Count())
    print("\n" + "\n".join(f"{name:<12} {count.seconds:7.1f} s  {count}" for name, count in counts.items()))
    for part in parts:
        for failure in failures(part.report) if part.report and part.report.exists() else ():
            print(f"FAILED {failure}")
    if total.passed == 0:
        total.failed += 1  # nothing ran: that is no success
    print(f"{'':<12} {time.monotonic() - STARTED:7.1f} s in all\n\n{total}", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
