"""A DNS server in the process of the test, and clients of it over UDP and TCP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import dns.message

from isthmus_dns import run
from isthmus_dns.listening.addresses import Address
from isthmus_kit.tasks import own_tasks
from support.waiting import eventually
from unit.nameserver.builders import Feed, headless, host, question, service, shown

NAME = "web.shop.svc.clusterset.local"
FOUND = "NOERROR | A 10.1.2.3"
LISTEN = "127.53.0.5:0"
MANY = [host(f"10.0.{n}.1", f"db-{n}") for n in range(60)]


@asynccontextmanager
async def listening(feed: Path, **options: Any) -> AsyncIterator[Address]:
    """A server of this feed, whether or not anybody feeds it."""
    up: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
    defaults: dict[str, Any] = {"listen": (LISTEN,), "workers": 0, "log_level": "error"}
    async with own_tasks() as tasks:
        tasks.start("server", run(feed=feed, started=lambda to, _: up.set_result(to[0]), **(defaults | options)))
        async with asyncio.timeout(20):
            address = await up
        yield address


@asynccontextmanager
async def server(folder: Path, **options: Any) -> AsyncIterator[Address]:
    """A server that knows a service with a VIP and a headless one with sixty endpoints, and answers for them."""
    feed = Feed(folder / "zone.sock")
    feed.publish([service("shop/web"), headless("shop/db", MANY)])
    async with feed.serving(), listening(feed.path, **options) as address:
        with client("127.0.0.1", address) as sock:
            await eventually(lambda: found(sock), within=10.0)
        yield address


@contextmanager
def client(ip: str, server: Address) -> Iterator[socket.socket]:
    """A UDP client with this address of its own."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((ip, 0))
        sock.connect((server.host, server.port))
        yield sock


async def asked(sock: socket.socket, packet: bytes) -> bytes:
    """The answer to a packet over UDP; nothing else may come."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        await loop.sock_sendall(sock, packet)
        return await loop.sock_recv(sock, 65535)


async def found(sock: socket.socket) -> bool:
    """Whether the service with a VIP is answered; asks once."""
    try:
        answer = dns.message.from_wire(await asked(sock, question(NAME).to_wire()))
    except OSError:
        return False
    return shown(answer) == FOUND


async def asked_over_tcp(server: Address, packet: bytes, sock: socket.socket | None = None) -> bytes:
    """The answer to a packet over TCP, through a connected socket if one is given."""
    where: dict[str, Any] = {"host": server.host, "port": server.port} if sock is None else {"sock": sock}
    reader, writer = await asyncio.open_connection(**where)
    try:
        writer.write(len(packet).to_bytes(2, "big") + packet)
        async with asyncio.timeout(5):
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
        await writer.wait_closed()
