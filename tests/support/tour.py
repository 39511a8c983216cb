"""Run the commands of a Markdown page in one bash, as a reader would, and compare what they show."""

import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# Commands that only look (or may be repeated): a block of these is tried again until it shows what the page says,
# because a reader takes seconds between two blocks and a test takes none.
_LOOKING = re.compile(
    r"(isthmus (status|services|explain|endpoints|doctor|cluster (list|show|drain|undrain))|dig|curl|VIP=|#)"
)


class Block(NamedTuple):
    """Commands and what they must show; `shown` is None when the page does not say."""

    commands: str
    shown: str | None
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The `sh` blocks of a page, each with the `text` block that follows at once."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", text, re.MULTILINE | re.DOTALL):
        yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)


def pattern(shown: str) -> re.Pattern[str]:
    """What the page shows as a pattern: `...` stands for any text, runs of white space are equal."""
    parts = (r"\s+".join(re.escape(word) for word in part.split()) for part in shown.strip().split("..."))
    return re.compile(r"\s*" + r"\s*.*?\s*".join(parts) + r"\s*", re.DOTALL)


def own_loopback() -> list[str]:
    """Words before a command that give it a loopback of its own: a page has fixed ports, which somebody else on this
    machine may have as well. None where that is not allowed."""
    words = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        return []
    return words


class Shell:
    """One bash that lives as long as the tour, so that variables and background jobs stay."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._bash = subprocess.Popen(
            [*own_loopback(), "bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            text=True,
            start_new_session=True,
        )

    def run(self, commands: str) -> tuple[int, str]:
        """Run commands; gives the exit status of the last one and all that they printed."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        mark = f"--{uuid.uuid4().hex}--"
        self._bash.stdin.write(f"{commands}\n__status=$?; echo; echo {mark} $__status\n")
        self._bash.stdin.flush()
        lines: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(mark):
                return int(line.split()[1]), "".join(lines)
            lines.append(line)
        raise AssertionError(f"the shell ended: {''.join(lines)}")

    def close(self) -> None:
        """End bash and everything that it started: politely first, so that gateways end their Envoys."""
        session = ["-s", str(self._bash.pid)]
        subprocess.run(["pkill", "-TERM", *session], check=False)
        end = time.monotonic() + 15
        while (
            time.monotonic() < end
            and subprocess.run(["pgrep", *session, "-f", "isthmus"], capture_output=True, check=False).returncode == 0
        ):
            time.sleep(0.1)
        subprocess.run(["pkill", "-KILL", *session], check=False)
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.close()
        self._bash.stdout.close()
        self._bash.wait(10)


def follow(shell: Shell, block: Block, within: float = 30.0) -> None:
    """Run one block; fails when it does not end well or does not show what the page says."""
    lines = [line for line in block.commands.splitlines() if line.strip()]
    patient = all(_LOOKING.match(line) for line in lines)
    end = time.monotonic() + within
    while True:
        status, output = shell.run(block.commands)
        good = status == 0 and (block.shown is None or pattern(block.shown).fullmatch(output))
        if good:
            return
        if not patient or time.monotonic() > end:
            said = f"but it printed (status {status})\n{output}"
            raise AssertionError(f"line {block.line}: the page shows\n{block.shown}\n{said}")
        time.sleep(0.2)
