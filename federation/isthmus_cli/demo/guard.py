"""End everything that a demo started when the demo itself is gone, however it went: `guard.py MARK`.

It waits until its standard input ends, which the kernel does for a demo that was killed too. A signal at the parent's
death (prctl(2)) is not enough: it does not reach an Envoy, which outlives its gateway on purpose, and a process that
the story has frozen at this moment would never take it.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

VARIABLE = "ISTHMUS_DEMO"  # in the environment of everything that a demo starts, and of nothing else
GRACE_S = 6.0


def marked(mark: str) -> list[int]:
    """The living processes that carry this mark (proc(5), `environ`), apart from this one."""
    wanted = f"{VARIABLE}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # not ours, or just gone
            if wanted in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


def end_all(mark: str) -> None:
    """SIGTERM, also to what is frozen; SIGKILL to what is left after some seconds."""
    deadline = time.monotonic() + GRACE_S
    _send(mark, signal.SIGTERM)
    while marked(mark):
        _send(mark, signal.SIGCONT)
        if time.monotonic() > deadline:
            _send(mark, signal.SIGKILL)
        time.sleep(0.1)


def _send(mark: str, number: int) -> None:
    for pid in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_all(sys.argv[1])
