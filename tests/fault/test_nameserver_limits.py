"""What a running DNS server gives whom: rates for each prefix of the outside world, bytes over UDP, places over TCP."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import pytest

from isthmus_dns import run
from isthmus_dns.addresses import Address
from isthmus_dns.tcp import TcpLimits
from isthmus_kit.tasks import own_tasks
from isthmus_sync.proto import isthmus_pb2 as pb
from support.netns import Host, Network, NoNamespaces
from support.process import Process
from support.waiting import eventually
from unit.nameserver.builders import Feed, header, headless, host, question, resources, service, shown
from unit.nameserver.test_malformed_classes import CLASSES
from unit.nameserver.test_rfc8906 import ROWS, written

pytestmark = pytest.mark.anyio

NAME = "web.shop.svc.clusterset.local"
FOUND = "NOERROR | A 10.1.2.3"
LOCAL = "127.53.0.5"
MANY = [host(f"10.0.{n}.1", f"db-{n}") for n in range(60)]
RATE = 40


@asynccontextmanager
async def server(folder: Path, **options: Any) -> AsyncIterator[Address]:
    """A server in this process that knows a service with a VIP and a headless one with sixty endpoints."""
    feed = Feed(folder / "zone.sock")
    feed.publish([service("shop/web"), headless("shop/db", MANY)])
    up: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
    defaults: dict[str, Any] = {"listen": (f"{LOCAL}:0",), "workers": 0, "log_level": "error", "server_id": "dns-7"}
    async with feed.serving(), own_tasks() as tasks:
        started: Callable[..., None] = lambda addresses, _: up.set_result(addresses[0])  # noqa: E731
        tasks.start("server", run(feed=feed.path, started=started, **(defaults | options)))
        address = await up
        with client("127.0.0.1", address) as sock:
            await eventually(lambda: _found(sock), within=10.0)
        yield address


@contextmanager
def client(ip: str, server: Address) -> Iterator[socket.socket]:
    """A UDP client with this address."""
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


async def _found(sock: socket.socket) -> bool:
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


# Rates.

SERVER = Address("192.0.2.53", 5353)
FLOOD, NEIGHBOUR, OTHER = "203.0.113.1", "203.0.113.200", "198.51.100.7"
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from isthmus_dns import run
options = json.loads(sys.argv[1])
asyncio.run(run(feed=Path(options.pop("feed")), started=lambda *_: print("up", flush=True), **options))
"""


@pytest.fixture
def outside() -> Iterator[Host]:
    """A host of its own with addresses of the outside world: there the limits apply, as they do not on loopback."""
    try:
        with Network() as network:
            there = network.host("outside")
            for address in (SERVER.host, FLOOD, NEIGHBOUR, OTHER):
                there.ip("address", "add", f"{address}/32", "dev", "lo")
            yield there
    except NoNamespaces as reason:
        pytest.skip(str(reason))


@asynccontextmanager
async def server_outside(there: Host, folder: Path, **options: object) -> AsyncIterator[None]:
    feed = Feed(folder / "zone.sock")
    feed.publish([service("shop/web")])
    told = {"feed": str(feed.path), "listen": [str(SERVER)], "web": f"{SERVER.host}:9153", "log_level": "error"}
    command = there.command(sys.executable, "-c", PROGRAM, json.dumps(told | options))
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    async with feed.serving():
        with Process(command, folder / "server.log", env=env) as process:
            await eventually(lambda: process.says("^up$"), within=20.0)
            yield


@contextmanager
def client_outside(there: Host, ip: str) -> Iterator[socket.socket]:
    with there.inside():
        opened = client(ip, SERVER)
        sock = opened.__enter__()
    try:
        yield sock
    finally:
        sock.close()


def metrics(there: Host) -> str:
    """What the server's metrics page says."""
    with there.inside():
        sock = socket.create_connection((SERVER.host, 9153), timeout=5)
    with sock:
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: sock.recv(65536), b"")).decode()


@pytest.mark.root
async def test_a_flood_from_one_prefix_is_held_back_and_others_get_everything(outside: Host, tmp_path: Path) -> None:
    query = question(NAME, "A", 1232, id=7).to_wire()
    async with server_outside(outside, tmp_path, rate_limit=RATE, workers=1):
        with client_outside(outside, OTHER) as other, client_outside(outside, FLOOD) as flood:
            await eventually(lambda: _found(other), within=10.0)
            sent, received = 0, []
            answered = 0
            began = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() - began < 1.5:
                for _ in range(100):
                    flood.send(query)
                sent += 100
                answered += await _found(other)  # asks once, and waits for its whole answer
                received += _arrived(flood)
                await asyncio.sleep(2 / RATE)  # it stays below the rate itself
            await asyncio.sleep(0.1)
            received += _arrived(flood)
            assert answered >= 10
            whole = [answer for answer in received if not answer[2] & 0x02]
            cut = [answer for answer in received if answer[2] & 0x02]
            # Three seconds have begun at most; everything else was cut to half as many headers, or withheld.
            assert RATE <= len(whole) <= 3 * RATE
            assert sent > 20 * RATE
            assert 0.3 <= len(cut) / (sent - len(whole)) <= 0.51
            assert all(len(answer) <= len(query) and not dns.message.from_wire(answer).answer for answer in cut)
            assert sum(map(len, received)) < len(query) * sent

            # Whoever comes over TCP, or with a cookie of ours, has an address that is not forged.
            with client_outside(outside, NEIGHBOUR) as neighbour:
                await _proves_itself(outside, neighbour, flood)
        text = metrics(outside)
        assert 'isthmus_dns_rate_limited_total{action="slip",worker="0"}' in text
        held = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("isthmus_dns_rate_limited"))
        assert all(float(count) > 0 for count in held.values())


def _arrived(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(65535))
        except BlockingIOError:
            return found


async def _proves_itself(outside: Host, neighbour: socket.socket, flood: socket.socket) -> None:
    """A client in the flooded prefix is told to come over TCP, gets a cookie there, and then every answer over UDP."""

    def with_cookie(cookie: bytes) -> bytes:
        option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
        return question(NAME, "A", 1232, id=9, options=[option]).to_wire()

    with outside.inside():
        stream = socket.create_connection((SERVER.host, SERVER.port), 5, (NEIGHBOUR, 0))
    stream.setblocking(False)
    first = dns.message.from_wire(await asked_over_tcp(SERVER, with_cookie(b"12345678"), stream))
    assert shown(first) == FOUND
    cookie = next(option.to_wire() or b"" for option in first.options)
    for _ in range(10):
        for _ in range(2 * RATE):
            flood.send(with_cookie(b"12345678"))
        answer = dns.message.from_wire(await asked(neighbour, with_cookie(cookie)))
        assert shown(answer) == FOUND
        assert not answer.flags & dns.flags.TC


# Bytes.


@pytest.mark.parametrize(
    ("size", "most"), [(None, 512), (0, 512), (512, 512), (1232, 1232), (4096, 1232), (65535, 1232)]
)
@pytest.mark.parametrize("rtype", ["A", "SRV"])
async def test_no_datagram_is_longer_than_its_client_takes_and_never_than_1232_bytes(
    tmp_path: Path, size: int | None, most: int, rtype: str
) -> None:
    name = "db.shop.svc.clusterset.local" if rtype == "A" else "_http._tcp.db.shop.svc.clusterset.local"
    query = question(name, rtype, size).to_wire()
    async with server(tmp_path) as address:
        with client("127.0.0.1", address) as sock:
            packet = await asked(sock, query)
        answer = dns.message.from_wire(packet)
        assert len(packet) <= most
        assert answer.flags & dns.flags.TC or len(answer.answer[0]) == 60
        if answer.flags & dns.flags.TC:
            assert len(packet) <= len(query) + 11
        over_tcp = dns.message.from_wire(await asked_over_tcp(address, query))
        assert len(over_tcp.answer[0]) == 60
        assert not over_tcp.flags & dns.flags.TC


@pytest.mark.parametrize(("length", "taken"), [(11, False), (12, True), (4096, True), (4097, False), (65535, False)])
async def test_a_tcp_query_has_from_12_to_4096_bytes(tmp_path: Path, length: int, taken: bool) -> None:
    padding = dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(min(max(0, length - 62), 65000)))
    query = question(NAME, "A", 1232, id=7, options=[padding]).to_wire(max_size=65535)[:length]
    query += bytes(length - len(query))
    async with server(tmp_path) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(length.to_bytes(2, "big") + query)
        async with asyncio.timeout(5):
            if taken:
                received = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                assert received[:2] == query[:2]
            else:
                with suppress(ConnectionError):  # it is closed before all was read
                    assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_is_silent_is_closed_whether_it_asked_before_or_not(tmp_path: Path) -> None:
    query = question(NAME).to_wire()
    async with server(tmp_path, tcp=TcpLimits(idle_seconds=1.0)) as address:
        mute_reader, mute = await asyncio.open_connection(address.host, address.port)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(len(query).to_bytes(2, "big") + query)
        async with asyncio.timeout(10):
            await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            assert await mute_reader.read() == b""
            assert await reader.read() == b""
        mute.close()
        writer.close()


async def test_a_client_that_fetches_no_answers_fills_no_memory(tmp_path: Path) -> None:
    query = question(NAME, "A", 1232).to_wire()
    queries = (len(query).to_bytes(2, "big") + query) * 1000
    async with server(tmp_path) as address:
        with socket.socket() as greedy:
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                greedy.setsockopt(socket.SOL_SOCKET, buffer, 4096)
            greedy.connect((address.host, address.port))
            greedy.setblocking(False)
            taken, stalled = 0, 0
            while stalled < 20:
                try:
                    taken += greedy.send(queries[taken % len(queries) :])
                    stalled = 0
                except BlockingIOError:
                    stalled += 1
                    await asyncio.sleep(0.02)
            # Its queries wait in buffers, here and there; left to itself the kernel would hold megabytes of answers.
            assert taken < 500_000
            with client("127.0.0.1", address) as sock:
                assert await _found(sock)


PIPELINES = """
import socket, sys, threading
host, port, query = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
def swallow(sock):
    while sock.recv(1 << 20): pass
def pour():
    sock = socket.create_connection((host, port))
    threading.Thread(target=swallow, args=(sock,)).start()
    while True: sock.sendall(query * 5000)
for _ in range(10): threading.Thread(target=pour).start()
"""


async def test_clients_that_pipeline_without_end_do_not_starve_others(tmp_path: Path) -> None:
    query = question("nope.clusterset.local", "A", 1232).to_wire()
    framed = len(query).to_bytes(2, "big") + query
    async with server(tmp_path, workers=1) as address:
        arguments = [sys.executable, "-c", PIPELINES, address.host, str(address.port), framed.hex()]
        with Process(arguments, tmp_path / "pipelines.log") as pipelines, client("127.0.0.1", address) as sock:
            for _ in range(20):
                assert await _found(sock)
                assert shown(dns.message.from_wire(await asked_over_tcp(address, question(NAME).to_wire()))) == FOUND
            pipelines.kill()


# Everything wrong and unusual, once more, of a server with sockets.


async def test_every_class_of_bad_packets_is_answered_so_by_a_running_server(tmp_path: Path) -> None:
    good = question(NAME, "A", 1232, id=1).to_wire()
    async with server(tmp_path, subnet_resolvers=("127.0.0.0/8",)) as address:
        with client("127.0.0.1", address) as sock:
            for title, case in CLASSES.items():
                if case.answer is None:
                    # Silence: the next answer that comes is the one to the next question.
                    await asyncio.get_running_loop().sock_sendall(sock, case.packet)
                    assert (await asked(sock, good))[:2] == good[:2], title
                else:
                    assert await asked(sock, case.packet) == case.answer, title
                    assert await asked_over_tcp(address, case.packet) == case.answer, title


async def test_the_table_of_rfc_8906_holds_for_a_running_server(tmp_path: Path) -> None:
    async with server(tmp_path, subnet_resolvers=("127.0.0.0/8",)) as address:
        soa = dns.message.from_wire(await asked_over_tcp(address, ROWS[0].packet())).answer[0][0]
        with client("127.0.0.1", address) as sock:
            for row in ROWS:
                expected = row.answer.replace(" 100 7200 ", f" {soa.serial} 7200 ")
                if not row.tcp:
                    assert written(await asked(sock, row.packet())) == expected, row.title
                assert written(await asked_over_tcp(address, row.packet())) == expected, row.title


# How fresh.


def _errors(packet: bytes) -> list[int]:
    """The extended errors of an answer."""
    options = dns.message.from_wire(packet).options
    return [int(option.code) for option in options if isinstance(option, dns.edns.EDEOption)]


@pytest.mark.parametrize("workers", [0, 1])
async def test_every_answer_says_when_nothing_is_known_yet_and_when_what_is_known_is_old(
    tmp_path: Path, workers: int
) -> None:
    feed = Feed(tmp_path / "zone.sock")
    feed.publish([service("shop/web")])
    up: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
    queries = {
        (name, edns): question(f"{name}.clusterset.local", "A", edns, id=7).to_wire()
        for name in ("web.shop.svc", "nope", "svc")
        for edns in (None, 1232)
    }
    known = {"web.shop.svc": FOUND, "nope": "NXDOMAIN", "svc": "NOERROR"}

    async def all_say(error: list[int], unknown: bool = False) -> bool:
        """Whether all questions, over UDP and TCP, are answered so; those without EDNS cannot be told why."""
        for (name, edns), query in queries.items():
            with client("127.0.0.1", up.result()) as sock:
                packets = [await asked(sock, query), await asked_over_tcp(up.result(), query)]
            for packet in packets:
                assert shown(dns.message.from_wire(packet)) == ("SERVFAIL" if unknown else known[name])
                assert _errors(packet) == (error if edns else [])
        return True

    async def in_time(error: list[int], unknown: bool = False) -> bool:
        try:
            return await all_say(error, unknown)
        except OSError:
            return False  # no worker listens yet

    async with own_tasks() as tasks:
        started: Callable[..., None] = lambda addresses, _: up.set_result(addresses[0])  # noqa: E731
        options: dict[str, Any] = {"listen": (f"{LOCAL}:0",), "workers": workers, "log_level": "error"}
        tasks.start("server", run(feed=feed.path, started=started, stale_after=0.5, **options))
        await up
        await eventually(lambda: in_time([14], unknown=True), within=15.0)
        async with feed.serving():
            await eventually(lambda: in_time([]), within=15.0)
        await eventually(lambda: in_time([3]), within=15.0)
        async with feed.serving():
            await eventually(lambda: in_time([]), within=15.0)


# The serial.


async def test_the_serial_only_grows_whatever_restarts(tmp_path: Path) -> None:
    path = tmp_path / "zone.sock"
    up: asyncio.Future[Address] = asyncio.get_running_loop().create_future()

    async def serial() -> int:
        answer = await asked_over_tcp(up.result(), question("clusterset.local", "SOA").to_wire())
        message = dns.message.from_wire(answer)
        return message.answer[0][0].serial if message.answer else 0

    async with own_tasks() as tasks:
        started: Callable[..., None] = lambda addresses, _: up.set_result(addresses[0])  # noqa: E731
        options: dict[str, Any] = {"listen": (f"{LOCAL}:0",), "workers": 0, "log_level": "error"}
        tasks.start("server", run(feed=path, started=started, **options))
        await up
        first = Feed(path)
        _tell(first, 2**32 - 2, [service("shop/web")])
        async with first.serving():
            await eventually(lambda: _equals(serial, 2**32 - 2), within=10.0)
            for following in (2**32 - 1, 0, 1):  # around the end of the numbers: RFC 1982
                _tell(first, following)
            await eventually(lambda: _equals(serial, 1), within=10.0)
        second = Feed(path)
        _tell(second, 2**32 - 99, [service("shop/web"), service("shop/new", ["10.3.3.3"])])  # it lost what it knew
        async with second.serving():

            async def changed() -> bool:
                query = question("new.shop.svc.clusterset.local").to_wire()
                return shown(dns.message.from_wire(await asked_over_tcp(up.result(), query))) != "NXDOMAIN"

            await eventually(changed, within=10.0)
            assert await serial() == 1


def _tell(feed: Feed, serial: int, services: Iterable[pb.ZoneService] = ()) -> None:
    with feed.publication.change():
        for name, body in resources(services).items():
            feed.services.put(name, body)
        feed.header.put("zone", header(serial))
        feed.services.mark_synced()
        feed.header.mark_synced()


async def _equals(ask: Callable[[], Any], expected: int) -> bool:
    return bool(await ask() == expected)
