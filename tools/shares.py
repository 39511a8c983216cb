"""Share test files out over processes, so that each has about as much to do as the others.

How long a file takes is what it took the last time (`build/tests/seconds.json`). A fresh clone knows nothing yet: its
first run shares by the means of each kind, as measured once, and is less even.
"""

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

UNKNOWN_S = {"unit": 0.5, "property": 2.5}


def share_out(files: Iterable[str], took_s: Mapping[str, float], shares: int) -> list[list[str]]:
    """The files in this many lists; the longest first, each to who has the least to do. Never an empty list."""
    loads = [(0.0, number) for number in range(shares)]
    lists: list[list[str]] = [[] for _ in loads]
    for weight, file in sorted(((weight_of(file, took_s), file) for file in files), reverse=True):
        load, number = min(loads)
        loads[number] = (load + weight, number)
        lists[number].append(file)
    return [sorted(share) for share in lists if share]


def weight_of(file: str, took_s: Mapping[str, float]) -> float:
    """What it took in seconds; for a new file what its kind takes in the middle, or took once."""
    kind = Path(file).parts[1]
    if file in took_s:
        return took_s[file]
    known = [seconds for name, seconds in took_s.items() if name.startswith(f"tests/{kind}/")]
    return statistics.mean(known) if known else UNKNOWN_S.get(kind, 1.0)


def remembered(path: Path) -> dict[str, float]:
    """What each file took; nothing if nobody has written it yet, or not to its end."""
    try:
        return {str(file): float(seconds) for file, seconds in json.loads(path.read_text()).items()}
    except (FileNotFoundError, ValueError):
        return {}


def remember(path: Path, took_s: Mapping[str, float]) -> None:
    """Keep it for the next run, beside what other runs told of other files."""
    both = {**remembered(path), **took_s}
    path.write_text(json.dumps({file: round(both[file], 2) for file in sorted(both)}, indent=1) + "\n")
