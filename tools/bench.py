"""Run tests/bench/bench_*.py, print their rows as a table, keep them in build/bench/, and refresh docs/benchmarks.md.

A bench module has NAME and `def rows() -> list[Row]` (tests/support/bench.py). Each runs in a process of its own.
`make bench ONLY=name` runs one and leaves the document alone, which shows full runs only.
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

import msgspec  # noqa: E402

from support import binaries  # noqa: E402
from support.bench import Row  # noqa: E402

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


def main() -> int:
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return 0
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    benches = {name_of(path): path for path in sorted(BENCHES.glob("bench_*.py"))}
    if only and only not in benches:
        print(f"bench: there is no {only!r}; choose one of: {', '.join(benches) or 'none yet'}", file=sys.stderr)
        return 2
    document = [INTRODUCTION, machine()]
    broken: list[str] = []
    for name, path in benches.items():
        if only and name != only:
            continue
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        if subprocess.run([sys.executable, str(Path(__file__)), "--measure", str(path)], check=False).returncode != 0:
            broken.append(name)
            continue
        rows = msgspec.json.decode((RESULTS / f"{name}.json").read_bytes(), type=list[Row])
        shown = table([HEAD, *map(cells, rows)])
        print(f"{shown}\n({time.monotonic() - started:.0f} s)", flush=True)
        document.append(f"\n## {name}\n\n{shown}")
    if broken:
        print(f"bench: did not run to the end: {', '.join(broken)}", file=sys.stderr)
        return 1
    if not only:
        DOCUMENT.write_text("\n".join(document) + "\n")
        print(f"\nwritten: {DOCUMENT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
