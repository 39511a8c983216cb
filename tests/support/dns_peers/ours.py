"""Run our own server for the bench, as a user does: `isthmus dns` with its settings as they come."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from isthmus_dns.listening.addresses import Address, claim_addresses
from support.dns_peers.content import TTL
from support.dns_peers.probe import until_answer
from support.dns_peers.running import SERVER_CORE, Running, children, end, favour, hold, start
from unit.nameserver.builders import Feed

NAME = "isthmus"
HOST = "127.53.9.1"
START = 60.0


@asynccontextmanager
async def served(feed: Feed, workers: int = 1, cores: Sequence[int] = (SERVER_CORE,)) -> AsyncIterator[Running]:
    """The supervisor and its workers on `cores`: the feed's socket is `zone.sock` in a gateway's folder."""
    (address,) = claim_addresses([Address(HOST, 0)])
    isthmus = str(Path(sys.executable).with_name("isthmus"))
    options = {"data-dir": feed.path.parent, "listen": address, "workers": workers, "ttl": TTL, "log-level": "error"}
    command = (isthmus, "dns", *(f"--{name}={value}" for name, value in options.items()))
    async with AsyncExitStack() as stack:
        process = await start(cores, *command, stdout=asyncio.subprocess.DEVNULL, stderr=None)
        stack.push_async_callback(end, process)
        await until_answer(Running(NAME, address.host, address.port, ()), START, lambda: process.returncode is None)
        running = Running(NAME, address.host, address.port, (process.pid, *children(process.pid)))
        for pid in running.pids:
            favour(pid)
        yield running


async def spread(server: Running, cores: Sequence[int]) -> None:
    """Give each worker a core of its own, and wait until all of them know the zone."""
    for pid, core in zip(server.pids[1:], cores, strict=False):
        hold(pid, core)
    async with asyncio.timeout(START):
        while not await asyncio.to_thread(_all_answer, server):
            await asyncio.sleep(0.1)


def _all_answer(server: Running, clients: int = 64) -> bool:
    """Whether this many clients have an answer: the kernel gives each of them to one worker."""
    query = os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0\4svc0\3ns0\3svc\x0aclusterset\5local\0\0\1\0\1"
    for _ in range(clients):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(1.0)
            client.connect((server.host, server.port))
            client.send(query)
            if client.recv(512)[3] & 15:
                return False
    return True
