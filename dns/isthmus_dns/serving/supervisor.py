"""Keep the workers running: start them, hear their reports, start a killed one again while the others go on."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_dns.feeding.relay import Relay
from isthmus_dns.serving.ahead import Ahead, start_worker
from isthmus_dns.serving.worker import WorkerSpec
from isthmus_dns.watching.traffic import Report
from isthmus_dns.zone.zone import Zone
from isthmus_kit.tasks import own_tasks

log = logging.getLogger(__name__)

_GRACE = 3.0
_PAUSE = 1.0
"""Seconds by which the zone that is kept for workers to come may be older than that of the others."""
_PATIENCE = 5.0
_CANNOT_ANSWER = 2


class Supervisor:
    """A number of worker processes, and what each said last; those that wait `ahead` are taken first."""

    def __init__(
        self,
        spec: WorkerSpec,
        workers: int,
        on_report: Callable[[str, Report | None], None],
        ahead: Ahead | None = None,
    ) -> None:
        self._spec = spec
        self._workers = workers
        self._ahead = [] if ahead is None else ahead
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
            code = await (self._run_again(number, spec) if again else self._run_first(number, spec))
            if code == _CANNOT_ANSWER:
                raise InvalidInput("a DNS worker cannot listen on its addresses", "Its own line above says why.")
            self.restarts += 1
            log.warning("worker ended, starting it again", extra={"worker": number, "status": code})
            # A worker that dies at once each time is not started in a tight loop; one that ran is back immediately.
            pause = 0.05 if asyncio.get_running_loop().time() - began > 10 else min(pause * 2, 2.0)
            await asyncio.sleep(pause)
            spec = msgspec.structs.replace(spec, late=len(self.pids) > 0)
            again = True

    async def _run_first(self, number: str, spec: WorkerSpec) -> int:
        return await self._hear(number, spec, self._ahead.pop() if self._ahead else await start_worker())

    async def _run_again(self, number: str, spec: WorkerSpec) -> int:
        """Run a worker that is told the zone first: the agent may be away."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                worker = await start_worker(theirs)
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
