"""Run our own worker for the bench, as `isthmus dns` starts it, with a feed of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
async def worker(feed: Feed, address: Address | None = None, core: int = SERVER_CORE) -> AsyncIterator[Running]:
    """One worker with everything on that is on by default; another one at the same address shares its queries."""
    (address,) = (address,) if address else claim_addresses([Address(HOST, 0)])
    spec = WorkerSpec(
        feed=str(feed.path),
        listen=(address,),
        ttl=TTL,
        server_id="bench",
        cookie_secret=bytes(16),
        rate_limit=1000,
        log_level="error",
    )
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    command = (sys.executable, "-m", "isthmus_dns.worker")
    process = await start(core, *command, stdin=pipe, stdout=null, stderr=None)
    assert process.stdin is not None
    try:
        process.stdin.write(msgspec.json.encode(spec) + b"\n")
        running = Running("isthmus", address.host, address.port, process.pid)
        await until_answer(running, START, lambda: process.returncode is None)
        yield running
    finally:
        process.stdin.close()  # a worker ends when nobody holds its input any more
        await process.wait()
