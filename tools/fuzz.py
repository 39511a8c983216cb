"""Look for bytes that break a rule of tests/property/nameserver/rules.py: coverage-guided fuzzing with Atheris.

`fuzz.py [--seconds N] [--only datagram,feed] [--keep]` shares the seconds among the rules, as many at once as there are
processors. It starts from tests/corpus and grows a larger corpus in build/fuzz. What breaks a rule is left in
build/fuzz as a file, and the exit status is 1. `--keep` then writes the smallest corpus with the same coverage back
into tests/corpus, which `make test` replays.
"""

import argparse
import fcntl
import hashlib
import importlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK_FILE = ROOT / "requirements-fuzz.txt"
PLACE = ROOT / ".tools" / "fuzz"
WORK = ROOT / "build" / "fuzz"
CORPUS = ROOT / "tests" / "corpus"
RULES = ("datagram", "batch", "changes", "stream", "cookie", "feed", "token", "document")
# Modules that take part in reading what comes from outside; instrumenting more only makes each run slower.
INSTRUMENTED = (
    "isthmus_dns",
    "isthmus_core",
    "isthmus_kit.pki",
    "isthmus_sync.subscriber",
    "isthmus_sync.wire",
    "isthmus_gateway.sources",
)
LONGEST_INPUT = 4096
SHORT = {"changes": 60, "cookie": 64}  # rules that look at no more bytes: to change others would only cost time
LONGEST_KEPT = 1024  # the repository's corpus stays small; the grown one in build/fuzz has the longer ones too
SLOWEST_INPUT = 10  # seconds; an input that takes longer is a finding


@dataclass(frozen=True)
class Outcome:
    """What fuzzing one rule came to."""

    rule: str
    runs: int
    speed: int
    coverage: int
    inputs: int
    status: int
    found: tuple[Path, ...]

    def __str__(self) -> str:
        end = "held" if not self.status else "BROKEN" if self.found else f"stopped with status {self.status}"
        return (
            f"{self.rule:<9} {end}: {self.runs:,} runs, {self.speed:,} a second, "
            f"{self.coverage} points reached, {self.inputs} inputs in the corpus"
        )


def install() -> None:
    """Put Atheris beside the environment, not into it: nothing else needs its 130 MB."""
    wanted = hashlib.sha256(LOCK_FILE.read_bytes() + sys.version.encode()).hexdigest()
    mark = PLACE / "stamp"
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == wanted:
            return
        print("fuzz: installing Atheris into .tools/fuzz/", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--quiet"]
        options = ["--require-hashes", "--only-binary=:all:", "--no-deps", "--upgrade", "--target", str(PLACE)]
        done = subprocess.run([*command, *options, "-r", str(LOCK_FILE)], check=False)
        if done.returncode:
            raise SystemExit(
                "fuzz: Atheris cannot be installed: it has wheels for Linux on x86_64 and Python 3.11 to 3.13"
            )
        mark.write_text(wanted)


def read_corpus(rule: str) -> list[bytes]:
    """The inputs that the repository keeps for a rule: one a line, in hexadecimal."""
    file = CORPUS / f"{rule}.hex"
    lines = file.read_text().splitlines() if file.exists() else []
    return [bytes.fromhex(line) for line in lines if line and not line.startswith("#")]


def unpack(rule: str) -> Path:
    """The folder of a rule's grown corpus, with everything that the repository keeps in it."""
    folder = WORK / rule / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    for octets in read_corpus(rule):
        (folder / hashlib.sha1(octets).hexdigest()).write_bytes(octets)
    return folder


def command_for(rule: str, *options: str) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of one fuzzing process."""
    paths = (str(PLACE), str(ROOT / "tests"), os.environ.get("PYTHONPATH", ""))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    return [sys.executable, str(Path(__file__)), "--one", rule, *options], env


def fuzz(rule: str, seconds: int) -> Outcome:
    """Fuzz one rule in a process of its own for so long."""
    corpus = unpack(rule)
    folder = WORK / rule
    found = folder / "found"
    found.mkdir(exist_ok=True)
    before = set(found.iterdir())
    command, env = command_for(
        rule,
        f"-max_total_time={seconds}",
        f"-max_len={SHORT.get(rule, LONGEST_INPUT)}",
        f"-timeout={SLOWEST_INPUT}",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        f"-artifact_prefix={found}/",
        str(corpus),
    )
    log = folder / "log.txt"
    with log.open("w") as output:
        status = subprocess.run(command, env=env, stdout=output, stderr=output, cwd=ROOT, check=False).returncode
    text = log.read_text(errors="replace")
    coverage = re.findall(r"\bcov: (\d+)", text)
    return Outcome(
        rule=rule,
        runs=_number(r"number_of_executed_units: (\d+)", text),
        speed=_number(r"average_exec_per_sec: +(\d+)", text),
        coverage=int(coverage[-1]) if coverage else 0,
        inputs=sum(1 for _ in corpus.iterdir()),
        status=status,
        found=tuple(sorted(set(found.iterdir()) - before)),
    )


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0


def keep(rule: str) -> int:
    """Write the smallest corpus that reaches as much as the grown one into the repository; how many inputs it has."""
    small = WORK / rule / "kept"
    small.mkdir(exist_ok=True)
    for old in small.iterdir():
        old.unlink()
    command, env = command_for(rule, "-merge=1", f"-max_len={LONGEST_INPUT}", str(small), str(unpack(rule)))
    with (WORK / rule / "keep.txt").open("w") as output:
        subprocess.run(command, env=env, stdout=output, stderr=output, cwd=ROOT, check=True)
    inputs = (path.read_bytes() for path in small.iterdir() if path.stat().st_size <= LONGEST_KEPT)
    lines = sorted((octets.hex() for octets in inputs), key=lambda line: (len(line), line))
    (CORPUS / f"{rule}.hex").write_text("".join(line + "\n" for line in lines if line))
    return len(lines)


def one(rule: str, options: Sequence[str]) -> None:
    """Be the fuzzing process of one rule; does not return."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        rules = importlib.import_module("property.nameserver.rules")
    # For merging libFuzzer runs itself again, through a shell: what it takes for a program is this whole command line.
    again = shlex.join([sys.executable, str(Path(__file__).resolve()), "--one", rule])
    atheris.Setup([again, *options], rules.RULES[rule])
    atheris.Fuzz()


def tell(found: Iterable[Path]) -> None:
    """Say what broke, and how to keep it from coming back."""
    for path in found:
        rule = path.parent.parent.name
        print(f"\n{path.relative_to(ROOT)} ({path.stat().st_size} bytes), the end of build/fuzz/{rule}/log.txt:")
        trace = re.search(r"(?s) === Uncaught Python exception: ===\n(.*?)\n==", (WORK / rule / "log.txt").read_text())
        print(trace[1] if trace else "(no exception: too slow, or too much memory)")
        print(f"When it is mended, keep it: add to tests/corpus/{rule}-found.hex\n{path.read_bytes().hex()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300, help="how long in all (default 300)")
    parser.add_argument("--only", default=",".join(RULES), help="rules, with commas between them")
    parser.add_argument("--keep", action="store_true", help="write the minimised corpus back into tests/corpus")
    parser.add_argument("--one", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.one[0], given.one[1:])
    rules = tuple(given.only.split(","))
    if unknown := [rule for rule in rules if rule not in RULES]:
        parser.error(f"no rule is called {', '.join(unknown)}; there are {', '.join(RULES)}")
    install()
    at_once = min(len(rules), os.cpu_count() or 1)
    each = max(1, given.seconds * at_once // len(rules))
    print(f"fuzz: {len(rules)} rules, {each} s each, {at_once} at once", flush=True)
    started = time.monotonic()
    outcomes = []
    with ThreadPoolExecutor(at_once) as pool:
        for outcome in pool.map(lambda rule: fuzz(rule, each), rules):
            print(outcome, flush=True)
            outcomes.append(outcome)
    if given.keep:
        for rule in rules:
            print(f"{rule:<9} keeps {keep(rule)} inputs", flush=True)
    broken = [outcome for outcome in outcomes if outcome.status]
    tell(path for outcome in outcomes for path in outcome.found)
    print(f"fuzz: {len(broken)} of {len(rules)} rules broken, {time.monotonic() - started:.0f} s in all")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
