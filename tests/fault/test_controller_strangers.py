"""Strangers who connect and do not go on: everybody else is served, and they are gone in seconds."""

import isthmus_kit.tls13  # isort: skip  # noqa: F401 - before gRPC

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from integration.controller.world import ANONYMOUS, Admin, controller, enrol, make_federation
from integration.trust.leaves import Door, admin, ingress, streams
from isthmus_controller.admin import server
from isthmus_core.spiffe import controller_name
from isthmus_kit.limits import raise_file_limit
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair
from support.etcd import Etcd

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


def hello() -> bytes:
    """What a TLS client says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(received, sent).do_handshake()
    return sent.read()


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class HalfOpen:
    """Connections on which nothing more is said."""

    def __init__(self, address: tuple[str, int], stack: ExitStack) -> None:
        self._sockets = [stack.enter_context(socket.socket()) for _ in range(1_000)]
        self._address = address
        self._words = (b"", hello())

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for number, sock in enumerate(self._sockets):
            sock.setblocking(False)
            await loop.sock_connect(sock, self._address)
            await loop.sock_sendall(sock, self._words[number % 2])

    def ended(self) -> bool:
        """Whether the other side has closed them all."""
        while self._sockets:
            try:
                while self._sockets[-1].recv(65536):
                    pass
            except BlockingIOError:
                return False
            except ConnectionError:
                pass
            self._sockets.pop().close()
        return True


async def besieged(
    addresses: Sequence[tuple[str, int]], serves: Callable[[], Awaitable[bool]], pid: int
) -> tuple[float, float, int]:
    """Seconds until all half-open connections were ended, the slowest answer meanwhile, and memory that was taken."""
    clock = asyncio.get_running_loop().time
    with ExitStack() as stack:
        crowds = [HalfOpen(address, stack) for address in addresses]
        before, slowest = resident(pid), 0.0
        for crowd in crowds:
            async with asyncio.timeout(20):
                await crowd.open()
        opened = clock()
        left = crowds
        while left := [crowd for crowd in left if not crowd.ended()]:
            assert clock() - opened < 30
            asked = clock()
            assert await serves()
            slowest = max(slowest, clock() - asked)
            await asyncio.sleep(0.1)
        return clock() - opened, slowest, resident(pid) - before


async def test_the_controller_serves_beside_two_thousand_half_open_connections(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    raise_file_limit()
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        identity = await enrol(federation, replica.admin, "a", tmp_path / "a")
        shown = (federation.admin_certificate.read_bytes(), federation.admin_key.read_bytes())
        doors = streams(at(replica.grpc), controller_name(federation.domain)), admin(at(replica.admin))

        async def serves() -> bool:
            told = [
                await asyncio.to_thread(door.knock, leaf, tmp_path)
                for door, leaf in zip(doors, ((identity.chain, identity.key), shown), strict=True)
            ]
            return told == ["in", "in"]

        took, slowest, memory = await besieged([door.address for door in doors], serves, os.getpid())
        print(f"ended after {took:.1f} s, answers within {slowest:.2f} s, {memory / MIB:.0f} MiB")
        assert took < 15
        assert memory < 200 * MIB


async def test_envoys_ingress_serves_beside_a_thousand_half_open_connections(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    raise_file_limit()
    pair = Pair(tmp_path, loopback_net)
    async with pair.running():
        door = ingress((pair.b.me.gateways[0].address, pair.b.me.gateways[0].port))
        leaf, pid = pair.world.identity("a"), pair.b.process.running_pid()
        assert pid is not None

        async def serves() -> bool:
            return await asyncio.to_thread(door.knock, leaf, tmp_path) == "in"

        took, slowest, memory = await besieged([door.address], serves, pid)
        print(f"ended after {took:.1f} s, answers within {slowest:.2f} s, {memory / MIB:.0f} MiB")
        assert took < 15
        assert memory < 100 * MIB


@asynccontextmanager
async def shaken(door: Door) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the admin port of somebody who shows nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(*door.address, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_who_asks_slowly_is_given_up(etcd: Etcd, federation_name: str, tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        door = admin(at(replica.admin))

        async def end(said: bytes) -> bytes:
            async with shaken(door) as (reader, writer), asyncio.timeout(server.BODY_S + 15):
                writer.write(said)
                return await reader.read()

        join = b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
        nothing, half, body = await asyncio.gather(end(b""), end(b"GET /healthz HTT"), end(join))
        assert nothing == half == b""
        assert body.startswith(b"HTTP/1.1 408") and b"did not come within 5 s" in body
        assert (await Admin(federation, replica.admin, ANONYMOUS).ask("GET", "/healthz"))[0] == 200


async def test_a_controller_may_open_as_many_files_as_the_system_allows(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
    try:
        federation = make_federation(tmp_path / "controller", federation_name)
        async with controller(federation, etcd.address):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1_024 or 0 <= hard <= 1_024
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def at(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
