"""A steady open-loop load that remembers who answered when, and counts what was lost."""

import asyncio
import time
from collections import Counter
from typing import NamedTuple

PATIENCE = 0.5
"""Seconds by which requests may be sent late."""


def left_out(behind: float, rate: float) -> int:
    """How many requests to leave out when the next is due since `behind` seconds.

    A machine that was too busy to send them must not send them all at once: that storm would be of our own making, and
    every later request would be late as well.
    """
    return int(behind * rate) if behind > PATIENCE else 0


class Seen(NamedTuple):
    """One request: when it was due and when it was answered (monotonic seconds), and by whom; '' when lost."""

    due: float
    answered: float
    by: str
    error: str = ""


class Load:
    """Sends requests at a fixed rate whatever the answers do (open loop), each within a deadline."""

    def __init__(self, name: str, host: str, port: int, rate: float, deadline: float = 5.0) -> None:
        """`rate` in requests a second, `deadline` in seconds for each."""
        self.name = name
        self.seen: list[Seen] = []
        self.unsent = 0
        self._address = (host, port)
        self._rate = rate
        self._deadline = deadline
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._waiting: list[float] = []  # when the requests under way were due

    async def run(self) -> None:
        """Go on until cancelled; requests under way are answered first."""
        start, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    late = left_out(time.monotonic() - start - number / self._rate, self._rate)
                    number, self.unsent = number + late, self.unsent + late
                    due = start + number / self._rate
                    await asyncio.sleep(max(due - time.monotonic(), 0))
                    group.create_task(self._one(due), name=f"request {number}")
                    number += 1
            except asyncio.CancelledError:
                pass  # stop sending; the group waits for the answers that are still due
        self.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        while self._idle:
            self._idle.pop()[1].close()

    @property
    def lost(self) -> list[Seen]:
        """The requests without an answer."""
        return [one for one in self.seen if not one.by]

    def answered_by(self, since: float, until: float = float("inf")) -> Counter[str]:
        """How many answers each sample gave to requests due in a span."""
        return Counter(one.by for one in self.seen if since <= one.due < until and one.by)

    def answers_in(self, since: float) -> Counter[str]:
        """How many answers each sample gave since then, however late: a busy machine lets an open loop fall behind."""
        return Counter(one.by for one in self.seen if one.answered >= since and one.by)

    def first_by_other(self, fault: float, victim: str) -> float | None:
        """Milliseconds from `fault` to the first answer, to a request due after it, that did not come from `victim`."""
        times = [one.answered for one in self.seen if one.due >= fault and one.by and not one.by.startswith(victim)]
        return (min(times) - fault) * 1000 if times else None

    def slowest(self, since: float, until: float) -> float:
        """The longest time to an answer among requests due in a span, in milliseconds; so far, for one under way."""
        now = time.monotonic()
        waits = [one.answered - one.due for one in self.seen if since <= one.due < until]
        waits += [now - due for due in self._waiting if since <= due < until]
        return max(waits, default=0.0) * 1000

    async def probe(self) -> str:
        """One request outside of the count: who answers, or '' when nobody does."""
        try:
            async with asyncio.timeout(self._deadline):
                return await self._ask()
        except (OSError, EOFError, ValueError, TimeoutError):
            return ""

    async def _one(self, due: float) -> None:
        self._waiting.append(due)
        try:
            async with asyncio.timeout(self._deadline):
                by = await self._ask()
            self.seen.append(Seen(due, time.monotonic(), by))
        except TimeoutError as error:
            # The deadline says nothing itself; the system's own (ETIMEDOUT) does.
            self.seen.append(Seen(due, time.monotonic(), "", str(error) or f"no answer within {self._deadline:g} s"))
        except (OSError, EOFError, ValueError) as error:
            self.seen.append(Seen(due, time.monotonic(), "", f"{type(error).__name__}: {error}"))
        finally:
            self._waiting.remove(due)

    async def _ask(self) -> str:
        raise NotImplementedError  # abstract: HttpLoad and TcpLoad say how


class HttpLoad(Load):
    """GET / over kept-alive connections, as an HTTP client with a pool does."""

    async def _ask(self) -> str:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: echo\r\n\r\n")
            lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length"))
            body = await reader.readexactly(length)
            if lines[0].split()[1] != b"200":
                raise ValueError(f"{lines[0].decode()}: {body.decode(errors='replace')[:300].strip()}")
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return body.decode().strip()


class TcpLoad(Load):
    """A new TCP connection for every greeting; like most clients, it connects anew when a connection breaks.

    Bytes cannot be sent again by a proxy that does not understand them, so a connection that is open when its far
    end dies is gone; what counts is that the next one works. `reconnected` says how often that was needed.
    """

    PAUSE = 0.05

    def __init__(self, name: str, host: str, port: int, rate: float, deadline: float = 5.0) -> None:
        super().__init__(name, host, port, rate, deadline)
        self.reconnected = 0

    async def _ask(self) -> str:
        while True:  # until the deadline of the request
            try:
                async with asyncio.timeout(self._deadline / 4):
                    return await self._greet()
            except (OSError, EOFError, ValueError, TimeoutError):
                self.reconnected += 1
            await asyncio.sleep(self.PAUSE)

    async def _greet(self) -> str:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(b"isthmus\n")
            return self._name_in((await reader.readline()).decode().strip())
        finally:
            writer.close()

    def _name_in(self, line: str) -> str:
        """Who sent this line; raises ValueError when it is no greeting."""
        if not line.startswith("hello isthmus, this is "):
            raise ValueError(f"a broken greeting: {line!r}")
        return line.rpartition(" ")[2]
