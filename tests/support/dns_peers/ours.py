"""Run our own worker for the bench, as `isthmus dns` starts it, with a feed of its own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import TemporaryFile

import msgspec

from isthmus_dns.addresses import Address, claim_addresses
from isthmus_dns.worker import WorkerSpec
from support.dns_peers.content import TTL
from support.dns_peers.probe import until_answer
from support.dns_peers.running import SERVER_CORE, Running, start
from unit.nameserver.builders import Feed

HOST = "127.53.9.1"
START = 60.0


@asynccontextmanager
async def worker(feed: Feed, beside: Running | None = None, core: int = SERVER_CORE) -> AsyncIterator[Running]:
    """One worker with everything on that is on by default; `beside` another one it shares that one's address."""
    address = Address(beside.host, beside.port) if beside else claim_addresses([Address(HOST, 0)])[0]
    spec = WorkerSpec(
        feed=str(feed.path),
        listen=(address,),
        ttl=TTL,
        server_id="bench",
        cookie_secret=bytes(16),
        rate_limit=1000,
        log_level="error",
        late=beside is not None,
    )
    command = (sys.executable, "-m", "isthmus_dns.worker")
    with TemporaryFile() as reports:
        process = await start(core, *command, stdin=asyncio.subprocess.PIPE, stdout=reports, stderr=None)
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(spec) + b"\n")
            running = Running("isthmus", address.host, address.port, process.pid)
            await until_answer(running, START, lambda: process.returncode is None)
            # The one beside it may have answered: a late one reports when it listens.
            while beside and b'"synced":true' not in os.pread(reports.fileno(), 65536, 0):
                await asyncio.sleep(0.05)
            yield running
        finally:
            process.stdin.close()  # a worker ends when nobody holds its input any more
            await process.wait()
