"""A zone with every shape of name, and what each question has to be answered with, whoever is asked."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import dns.exception
import dns.flags
import dns.message
import dns.rdataclass

from isthmus_dns.listening.addresses import Address
from isthmus_sync.proto import isthmus_pb2 as pb
from support.process import Process
from support.waiting import eventually
from unit.nameserver.builders import HTTP, METRICS, headless, host, question, service, shown

Inside = Callable[[], AbstractContextManager[None]]
"""Where sockets are opened: on this machine, or inside of a network namespace."""
PATIENCE_S = 3.0
MANY = 40
"""Endpoints of the service `shop/many`: more than a datagram holds."""


def services() -> list[pb.ZoneService]:
    """One service of each shape."""
    return [
        service("shop/web", ["10.1.2.3", "fd00::3"], [HTTP, METRICS]),
        headless(
            "shop/db",
            [
                host("10.9.0.1", "db-0", "east"),
                host("10.9.0.2", "db-1", "east"),
                host("fd00::9", "db-0", "west"),
                host("10.9.0.4", "", "west"),
            ],
        ),
        headless("shop/queue", []),
        headless("shop/many", [host(f"10.9.1.{n}", f"many-{n}") for n in range(MANY)]),
    ]


def _expected(zone: str) -> Iterable[tuple[str, str, str]]:
    web = f"web.shop.svc.{zone}."
    east, west = f"east.db.shop.svc.{zone}.", f"west.db.shop.svc.{zone}."
    hosts = [f"db-0.{east}", f"db-1.{east}", f"db-0.{west}", f"10-9-0-4.{west}"]
    many = sorted(f"SRV 0 100 80 many-{n}.east.many.shop.svc.{zone}." for n in range(MANY))
    yield "web.shop.svc", "A", "NOERROR | A 10.1.2.3"
    yield "WeB.sHoP.sVc", "A", "NOERROR | A 10.1.2.3"
    yield "web.shop.svc", "AAAA", "NOERROR | AAAA fd00::3"
    yield "web.shop.svc", "SRV", f"NOERROR | SRV 0 100 80 {web} | SRV 0 100 9090 {web}"
    yield "_http._tcp.web.shop.svc", "SRV", f"NOERROR | SRV 0 100 80 {web}"
    yield "_metrics._tcp.web.shop.svc", "SRV", f"NOERROR | SRV 0 100 9090 {web}"
    yield "_http._udp.web.shop.svc", "SRV", "NXDOMAIN"
    yield "_nope._tcp.web.shop.svc", "SRV", "NXDOMAIN"
    yield "dns-version", "TXT", 'NOERROR | TXT "1.0.0"'
    for rtype in ("TXT", "MX", "CNAME", "HTTPS", "SVCB", "TYPE65280"):
        yield "web.shop.svc", rtype, "NOERROR"
    # Headless: all endpoints, those of one cluster by their names, and names for endpoints without one.
    yield "db.shop.svc", "A", "NOERROR | A 10.9.0.1 | A 10.9.0.2 | A 10.9.0.4"
    yield "db.shop.svc", "AAAA", "NOERROR | AAAA fd00::9"
    yield "db-0.east.db.shop.svc", "A", "NOERROR | A 10.9.0.1"
    yield "db-0.east.db.shop.svc", "AAAA", "NOERROR"
    yield "db-0.west.db.shop.svc", "AAAA", "NOERROR | AAAA fd00::9"
    yield "10-9-0-4.west.db.shop.svc", "A", "NOERROR | A 10.9.0.4"
    yield "_http._tcp.db.shop.svc", "SRV", " | ".join(["NOERROR", *sorted(f"SRV 0 100 80 {name}" for name in hosts)])
    yield "_http._tcp.many.shop.svc", "SRV", " | ".join(["NOERROR", *many])
    yield "queue.shop.svc", "A", "NXDOMAIN"
    # Names that exist because others stand below them (RFC 8020, RFC 4592): a strict resolver walks down through them.
    for empty in ("_tcp.web.shop.svc", "east.db.shop.svc", "shop.svc", "svc"):
        for rtype in ("A", "AAAA", "SRV"):
            yield empty, rtype, "NOERROR"
    for missing in ("east.web.shop.svc", "north.db.shop.svc", "nope.shop.svc", "a.b.c.nope.shop.svc", "nope.nope"):
        yield missing, "A", "NXDOMAIN"


def questions(zone: str = "clusterset.local") -> list[tuple[str, str, str]]:
    """Full names, types, and the code with the sorted answers."""
    return [(f"{name}.{zone}.", rtype, answer) for name, rtype, answer in _expected(zone)]


async def asked(
    server: Address, name: str, rtype: str, inside: Inside = nullcontext, query: dns.message.Message | None = None
) -> str:
    """Code and answers over UDP, and over TCP where they were cut; or why there are none."""
    query = query or question(name, rtype, 1232)
    try:
        async with asyncio.timeout(PATIENCE_S):
            response = await _exchange(server, query, socket.SOCK_DGRAM, inside)
            if response.flags & dns.flags.TC:
                response = await _exchange(server, query, socket.SOCK_STREAM, inside)
    except (OSError, EOFError, dns.exception.DNSException) as error:
        return str(error) or "no answer"
    return shown(response) if response.id == query.id else "an answer to something else"


async def _exchange(
    server: Address, query: dns.message.Message, kind: socket.SocketKind, inside: Inside
) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    with inside():
        sock = socket.socket(socket.AF_INET, kind)
    with sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (server.host, server.port))
        wire = query.to_wire()
        if kind == socket.SOCK_DGRAM:
            await loop.sock_sendall(sock, wire)
            return dns.message.from_wire(await loop.sock_recv(sock, 65535))
        await loop.sock_sendall(sock, len(wire).to_bytes(2, "big") + wire)
        received = b""
        while len(received) < 2 or len(received) < 2 + int.from_bytes(received[:2], "big"):
            more = await loop.sock_recv(sock, 65535)
            if not more:
                raise EOFError("the connection ended in the middle of an answer")
            received += more
    return dns.message.from_wire(received[2:])


async def answering(server: Address, process: Process | None = None, inside: Inside = nullcontext) -> None:
    """Wait until it answers for our zone."""

    async def answers() -> bool:
        if process is not None and not process.running:
            raise process.ended()
        assert await asked(server, "dns-version.clusterset.local", "TXT", inside) == 'NOERROR | TXT "1.0.0"'
        return True

    await eventually(answers, within=15.0, every=0.05)


async def saying_something(resolver: Address, process: Process, inside: Inside = nullcontext) -> None:
    """Wait until it is there: it says something about itself, if only that it will not."""
    query = question("version.bind", "TXT", 1232, rdclass=dns.rdataclass.CH)

    async def answers() -> bool:
        if not process.running:
            raise process.ended()
        said = await asked(resolver, "version.bind", "TXT", inside, query)
        return said.split()[0] in ("NOERROR", "REFUSED", "NOTIMP", "NXDOMAIN", "SERVFAIL")

    await eventually(answers, within=15.0, every=0.05)


async def all_asked(
    resolver: Address, zone: str = "clusterset.local", inside: Inside = nullcontext
) -> dict[tuple[str, str], str]:
    """What a resolver makes of every question; several at once, as its clients ask."""
    some = asyncio.Semaphore(8)

    async def one(name: str, rtype: str) -> str:
        async with some:
            return await asked(resolver, name, rtype, inside)

    listed = [(name, rtype) for name, rtype, _ in questions(zone)]
    return dict(zip(listed, await asyncio.gather(*(one(*asks) for asks in listed)), strict=True))


def all_expected(zone: str = "clusterset.local") -> dict[tuple[str, str], str]:
    """What it should make of them."""
    return {(name, rtype): answer for name, rtype, answer in questions(zone)}
