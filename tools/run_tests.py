"""Run the gates and the tests, and say at the end how many of each kind passed.

`quick`: format, lint, types, layers, unit, property. `all`: the same, then integration, e2e and fault.
Unit and property tests run in two processes or more, each with its share of the files, and beside them the gates.
What fails does not stop the others; the exit status is 1 if anything failed. The last line is the whole count.
"""

import os
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import shares  # noqa: E402 - after the path

BIN = Path(sys.executable).parent
REPORTS = ROOT / "build" / "tests"
SECONDS = REPORTS / "seconds.json"
STARTED = time.monotonic()
QUICK = ("unit", "property")
ALL = (*QUICK, "integration", "e2e", "fault")
GATES: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("format", (("ruff", "format", "--check", "--quiet", "."),)),
    ("lint", (("ruff", "check", "--quiet", "."),)),
    ("layers", (("lint-imports", "--no-logo"),)),
    ("types", (("python", "tools/stubs.py"), ("mypy",))),
)
PROCESSES = max(2, min(4, len(os.sched_getaffinity(0))))
"""For the shares of the quick tests. Two share a single core as well as one has it: much of a test is waiting."""
ENV = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Where nothing compiled is kept, pytest rewrites every assert of 230 files in each run: a third of its time."""
PATIENCE_S = 20.0
"""How long a run that was stopped may take to end what it started."""


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


class Stopped(Exception):
    """Somebody wants the run to end: no command begins any more."""


class Commands:
    """The commands that run now. Each has a group of its own: Ctrl-C comes to us alone, and we end them in order."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, command: tuple[str, ...], live: bool) -> tuple[int, str]:
        """Its status and what it said; if `live`, it says it to the terminal."""
        with self._lock:
            if self._stopped:
                raise Stopped
            running = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                cwd=ROOT,
                env=ENV,
                stdin=subprocess.DEVNULL,
                stdout=None if live else subprocess.PIPE,
                stderr=None if live else subprocess.STDOUT,
                text=True,
                process_group=0,
            )
            self._running.add(running)
        output, _ = running.communicate()
        with self._lock:
            self._running.discard(running)
        return running.returncode, output or ""

    def stop(self) -> None:
        """As Ctrl-C does: pytest then ends what its tests started. Whoever has not ended in time is killed."""
        with self._lock:
            self._stopped = True
            left = set(self._running)
            for command in left:
                command.send_signal(signal.SIGINT)
        end = time.monotonic() + PATIENCE_S
        try:
            while any(command.poll() is None for command in left) and time.monotonic() < end:
                time.sleep(0.05)
        finally:  # a second Ctrl-C: at once
            for command in left:
                if command.poll() is None:
                    os.killpg(command.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Part:
    """What one process after the other does: a gate, a kind of tests, or a share of the quick ones."""

    title: str
    commands: tuple[tuple[str, ...], ...]
    report: Path | None = None
    live: bool = False

    def run(self, commands: Commands) -> "Outcome":
        """Run it; unless `live`, its output is in the outcome."""
        started = time.monotonic()
        output, status = "", 0
        for command in self.commands:
            ended, said = commands.run(command, self.live)
            output += said
            status = status or ended
        if self.report is None:
            # A gate that holds has nothing to say.
            seconds = time.monotonic() - started
            count = Count(failed=1, seconds=seconds) if status else Count(passed=1, seconds=seconds)
            return Outcome(self.title, {self.title: count}, output if status else "")
        outcome = read(self.title, self.report)
        if status not in (0, 5) and not outcome.failures:
            outcome.counts[self.title] = Count(failed=1)
            outcome.failures.append(f"{self.title}: pytest ended with {status}")
        outcome.output = output
        return outcome


@dataclass
class Outcome:
    """What came of a part: counts by kind, what it said, the last line of each failure, the seconds of each file."""

    title: str
    counts: dict[str, Count]
    output: str = ""
    failures: list[str] = field(default_factory=list)
    took_s: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        total = sum(self.counts.values(), Count())
        return f"== {self.title}: {total} ({total.seconds:.1f} s)\n{self.output}"


def tests(title: str, paths: list[str], options: list[str], live: bool) -> Part:
    """A pytest run of these files or folders; counted from the report it writes."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{title.replace(' ', '-')}.xml"
    report.unlink(missing_ok=True)
    words = ("python", "-m", "pytest", "-q", "--no-showlocals", "-o", "junit_family=xunit1", f"--junit-xml={report}")
    return Part(title, ((*words, *paths, *options),) if paths else (), report, live)


def quick_parts(kinds: list[str], options: list[str]) -> list[Part]:
    """The files of these kinds, shared out."""
    folders = [ROOT / "tests" / kind for kind in kinds]
    files = [str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("test_*.py")]
    lists = shares.share_out(files, shares.remembered(SECONDS), PROCESSES)
    names = " and ".join(kinds)
    return [tests(f"{names} {n} of {len(lists)}", share, options, live=False) for n, share in enumerate(lists, 1)]


def read(title: str, report: Path) -> Outcome:
    """The counts of a report by the kind of test, which is the folder that its file lies in."""
    outcome = Outcome(title, {})
    if not report.exists():
        return outcome
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("file", "")
        kind = (Path(file).parts[1:2] or (title,))[0]
        outcomes = {part.tag for part in case}
        failed = bool(outcomes & {"failure", "error"})
        skipped = "skipped" in outcomes and not failed
        seconds = float(case.get("time", 0))
        count = Count(int(not (failed or skipped)), int(failed), int(skipped), seconds)
        outcome.counts[kind] = outcome.counts.get(kind, Count()) + count
        outcome.took_s[file] = outcome.took_s.get(file, 0.0) + seconds
        for part in case:
            if part.tag in ("failure", "error"):
                words = [line for line in (part.text or part.get("message") or "").splitlines() if line.strip()]
                last = words[-1].strip() if words else "?"
                outcome.failures.append(f"{case.get('classname')}.{case.get('name')}: {last}")
    return outcome


def run(wanted: str, options: list[str]) -> list[Outcome]:
    """Everything that is wanted: what is quick and the gates beside each other, then one kind after the other."""
    kinds = {"quick": QUICK, "all": ALL}.get(wanted) or tuple(wanted.split(","))
    # These measure no time and share no ports.
    beside = [[part] for part in quick_parts([kind for kind in kinds if kind in QUICK], options)]
    if wanted in ("quick", "all"):
        beside.append([Part(title, commands) for title, commands in GATES])
    commands = Commands()
    outcomes = []

    def in_order(parts: list[Part]) -> list[Outcome]:
        return [part.run(commands) for part in parts]

    with ThreadPoolExecutor(max(1, len(beside))) as pool:
        try:
            for done in as_completed([pool.submit(in_order, parts) for parts in beside]):
                for outcome in done.result():
                    print(outcome, end="", flush=True)
                    outcomes.append(outcome)
            for kind in kinds:
                if kind not in QUICK:
                    print(f"== {kind}", flush=True)
                    outcomes.append(tests(kind, [f"tests/{kind}"], options, live=True).run(commands))
        except KeyboardInterrupt:
            commands.stop()
            raise
    return outcomes


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else "all"
    options = [*(["-m", "not slow"] if wanted == "quick" else []), *sys.argv[2:]]
    print(f"environment: {BIN.parent.relative_to(ROOT)}/ (Python {sys.version.split()[0]})", flush=True)
    try:
        outcomes = run(wanted, options)
    except KeyboardInterrupt:
        print("stopped, and all that was running has ended", flush=True)
        return 130
    counts: dict[str, Count] = {}
    for outcome in outcomes:
        for kind, count in outcome.counts.items():
            counts[kind] = counts.get(kind, Count()) + count
        if not sys.argv[2:]:  # with options only some of a file's tests may have run
            shares.remember(SECONDS, outcome.took_s)
    total = sum(counts.values(), Count())
    print("\n" + "\n".join(f"{name:<12} {count.seconds:7.1f} s  {count}" for name, count in counts.items()))
    for outcome in outcomes:
        for failure in outcome.failures:
            print(f"FAILED {failure}")
    if total.passed == 0:
        total.failed += 1  # nothing ran: that is no success
    print(f"{'':<12} {time.monotonic() - STARTED:7.1f} s in all\n\n{total}", flush=True)
    return 1 if total.failed else 0


def interrupted(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # SIGINT, too: a shell that starts us in the background has it ignored, for us and for all that we start.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupted)
    sys.exit(main())
