"""Keep the workers running: start them, hear their reports, start a killed one again while the others go on."""

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_dns.relay import Relay
from isthmus_dns.traffic import Report
from isthmus_dns.worker import WorkerSpec
from isthmus_dns.zone import Zone
from isthmus_kit.tasks import own_tasks

log = logging.getLogger(__name__)

_GRACE = 3.0
_PAUSE = 1.0
"""Seconds by which the zone that is kept for workers to come may be older than that of the others."""
_PATIENCE = 5.0
_LONGEST_REPORT = 1 << 20
_CANNOT_ANSWER = 2


class Supervisor:
    """A number of worker processes, and what each said last."""

    def __init__(self, spec: WorkerSpec, workers: int, on_report: Callable[[str, Report | None], None]) -> None:
        self._spec = spec
        self._workers = workers
        self._relay = Relay(Path(spec.feed), Zone(spec.zones, spec.ttl), time.monotonic, _PAUSE)
        self._answering = asyncio.Event()
        self._on_report = on_report
        self.restarts = 0
        self.pids: dict[str, int] = {}
        """Process ids of the running workers by their number."""

    async def keep(self) -> None:
        """Run the workers until cancelled; they have ended when this returns."""
        async with own_tasks() as tasks:
            tasks.start("zone feed", self._follow())
            for number in range(self._workers):
                tasks.start(f"worker {number}", self._keep_one(str(number)))
            await asyncio.get_running_loop().create_future()

    @property
    def knows_zone(self) -> bool:
        """Whether a worker that is started again is told the zone."""
        return self._relay.known

    async def _follow(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._answering.wait()  # workers first: it is they who answer
        await self._relay.follow()

    async def _keep_one(self, number: str) -> None:
        spec = self._spec
        pause = 0.05
        again = False
        while True:
            began = asyncio.get_running_loop().time()
            code = await (self._run_again(number, spec) if again else self._hear(number, spec, await self._start(None)))
            if code == _CANNOT_ANSWER:
                raise InvalidInput("a DNS worker cannot listen on its addresses", "Its own line above says why.")
            self.restarts += 1
            log.warning("worker ended, starting it again", extra={"worker": number, "status": code})
            # A worker that dies at once each time is not started in a tight loop; one that ran is back immediately.
            pause = 0.05 if asyncio.get_running_loop().time() - began > 10 else min(pause * 2, 2.0)
            await asyncio.sleep(pause)
            spec = msgspec.structs.replace(spec, late=len(self.pids) > 0)
            again = True

    async def _start(self, theirs: socket.socket | None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "isthmus_dns.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            limit=_LONGEST_REPORT,
            start_new_session=True,
            pass_fds=() if theirs is None else (theirs.fileno(),),
        )

    async def _run_again(self, number: str, spec: WorkerSpec) -> int:
        """Run a worker that is told the zone first: the agent may be away."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                worker = await self._start(theirs)
            except BaseException:
                ours.close()
                raise
            spec = msgspec.structs.replace(spec, relay=theirs.fileno())
        async with own_tasks() as tasks:
            tasks.once("relay", self._relay.serve(ours))
            return await self._hear(number, spec, worker)

    async def _hear(self, number: str, spec: WorkerSpec, worker: asyncio.subprocess.Process) -> int:
        """Give the worker its specification and take its reports until it ends; its status."""
        self.pids[number] = worker.pid
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(msgspec.json.encode(spec) + b"\n")
            decoder = msgspec.json.Decoder(Report)
            async for line in worker.stdout:
                report = decoder.decode(line)
                if report.synced:
                    self._answering.set()
                self._on_report(number, report)
            return await worker.wait()
        finally:
            self.pids.pop(number, None)
            self._on_report(number, None)
            await _end(worker)


async def _end(worker: asyncio.subprocess.Process) -> None:
    """End a worker: ask, wait, then insist."""
    if worker.returncode is None:
        with suppress(ProcessLookupError):
            worker.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await worker.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()
