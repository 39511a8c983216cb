"""Run tests/bench/bench_*.py, print their rows as a table, keep them in build/bench/, and refresh docs/benchmarks.md.

A bench module has NAME and `def rows() -> list[Row]` (tests/support/bench.py), and may have `def about() -> str`, a
sentence below its table. Each runs in a process of its own. `make bench ONLY=name` runs one and leaves the document
alone; `python tools/bench.py name --write` puts what it found into its section.
"""

import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import msgspec  # noqa: E402 - after the path

from support import binaries  # noqa: E402 - after the path
from support.bench import Row  # noqa: E402 - after the path

BENCHES = ROOT / "tests" / "bench"
RESULTS = ROOT / "build" / "bench"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
HEAD = ("what", "value", "target", "reference", "ratio", "ok")
INTRODUCTION = """# Benchmarks

Measured by `make bench`; each figure stands beside a reference measured in the same run, because ratios travel between
machines and absolute figures do not. One figure again: `make bench ONLY=name`; the rows are in `build/bench/name.json`.
"""


def measure(path: Path) -> None:
    """Import one bench module, run it, and write its rows (in the child process)."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    rows: list[Row] = module.rows()
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{module.NAME}.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
    about: str = module.about() if hasattr(module, "about") else ""
    (RESULTS / f"{module.NAME}.about").write_text(about)


def name_of(path: Path) -> str:
    found = re.search(r'^NAME\s*=\s*"([a-z0-9_-]+)"', path.read_text(), re.MULTILINE)
    return found[1] if found else path.stem.removeprefix("bench_")


def number(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def cells(row: Row) -> tuple[str, ...]:
    reference = f"{row.reference}: {number(row.reference_value, row.unit)}" if row.reference else ""
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
    verdict = ("yes" if row.ok else "NO") if row.target else ""
    return (row.name, number(row.value, row.unit), row.target, reference, ratio, verdict)


def table(lines: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table that reads as plain text too."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    shown.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(shown)


def first_line(command: list[str], pattern: str) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(pattern, answer.stdout)
    return found[1] if found else "?"


def machine() -> str:
    """What the figures depend on; no names of hosts, no paths."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = model[1] if model else platform.machine()
    envoy = first_line([str(binaries.envoy()), "--version"], r"/([0-9.]+)/")
    etcd = first_line([str(binaries.etcd()), "--version"], r"etcd Version: ([0-9.]+)")
    return f"""* Processor: {processor}, {os.cpu_count()} cores; memory {memory:.0f} GiB
* Linux {platform.release().split("-")[0]}, Python {platform.python_version()}
* Envoy {envoy}, etcd {etcd}"""


def section(name: str) -> str:
    """What one bench found, from the files that it left."""
    rows = msgspec.json.decode((RESULTS / f"{name}.json").read_bytes(), type=list[Row])
    about = (RESULTS / f"{name}.about").read_text()
    return f"## {name}\n\n{table([HEAD, *map(cells, rows)])}\n" + (f"\n{about}\n" if about else "")


def replaced(document: str, name: str, new: str) -> str:
    """The document with another section of this name; at its end if there was none."""
    head, *sections = re.split(r"^(?=## )", document, flags=re.MULTILINE)
    kept = [one.rstrip() for one in sections if not one.startswith(f"## {name}\n")]
    return "\n\n".join([head.rstrip(), *sorted([*kept, new.rstrip()])]) + "\n"


def main() -> int:
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return 0
    write = sys.argv[2:] == ["--write"]
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    benches = {name_of(path): path for path in sorted(BENCHES.glob("bench_*.py"))}
    if only and only not in benches:
        print(f"bench: there is no {only!r}; choose one of: {', '.join(benches) or 'none yet'}", file=sys.stderr)
        return 2
    found: dict[str, str] = {}
    broken: list[str] = []
    for name, path in benches.items():
        if only and name != only:
            continue
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        if subprocess.run([sys.executable, str(Path(__file__)), "--measure", str(path)], check=False).returncode != 0:
            broken.append(name)
            continue
        found[name] = section(name)
        print(f"{found[name].partition(chr(10) * 2)[2]}({time.monotonic() - started:.0f} s)", flush=True)
    if broken:
        print(f"bench: did not run to the end: {', '.join(broken)}", file=sys.stderr)
        return 1
    if write:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), only, found[only]))
    elif not only:
        DOCUMENT.write_text("\n".join([INTRODUCTION, machine(), "", "\n".join(found.values())]))
    if write or not only:
        print(f"\nwritten: {DOCUMENT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
