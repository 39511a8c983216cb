"""Run the open load beside a fault, and say what became of the requests."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryFile

PROGRAM = Path(__file__).parent.parent / "bench" / "http_load.py"


class OpenLoad:
    """What an open load measured; filled when its block has ended. Times are CLOCK_MONOTONIC seconds."""

    def __init__(self) -> None:
        self.records: list[tuple[float, float, str]] = []

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(outcome for _, _, outcome in self.records)

    def lost(self, *good: str) -> int:
        """Requests that were answered by nobody in `good`."""
        return sum(outcome not in good for _, _, outcome in self.records)

    def first_answer_after(self, moment: float, name: str) -> float:
        """Seconds from `moment` to the first answer from `name`."""
        return (
            min((done for _, done, outcome in self.records if outcome == name and done >= moment), default=9e9) - moment
        )

    def longest(self) -> float:
        """The longest time a request took, in seconds."""
        return max((done - due for due, done, _ in self.records), default=0.0)


@asynccontextmanager
async def open_load(
    address: str, port: int, rate: float, seconds: float, method: str = "GET"
) -> AsyncIterator[OpenLoad]:
    """The load runs from the start of the block; its end waits for the last answer."""
    load = OpenLoad()
    arguments = ("open", address, str(port), str(rate), str(seconds), method)
    with TemporaryFile() as records:
        # Into a file: a pipe is full after 64 KiB, and nobody reads it before the load has ended.
        child = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, *arguments, stdout=records, stderr=-1)
        try:
            assert child.stderr is not None
            async with asyncio.timeout(20):
                await child.stderr.readline()
            yield load
            async with asyncio.timeout(seconds + 30):
                _, errors = await child.communicate()
            assert child.returncode == 0, errors.decode()
            records.seek(0)
            load.records = [(due, done, outcome) for due, done, outcome in json.loads(records.read())["records"]]
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
