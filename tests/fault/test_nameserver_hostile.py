"""Hostile clients of the DNS server: slow ones, many, greedy ones, and floods; others are served all the while."""

import asyncio
import resource
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import dns.asyncquery
import dns.message
import pytest

from fault.running_nameserver import FOUND, NAME, server
from isthmus_dns.listening.addresses import Address, raise_file_limit
from isthmus_dns.listening.tcp import TcpLimits
from isthmus_dns.watching import dnstap
from isthmus_kit.tasks import own_tasks
from support.waiting import eventually
from unit.nameserver.builders import question, shown

pytestmark = pytest.mark.anyio

QUERY = question(NAME, "A", 1232).to_wire()
FRAMED = len(QUERY).to_bytes(2, "big") + QUERY


async def served(address: Address, tcp: bool = False, patience: float = 5.0) -> bool:
    """Whether an honest client gets its answer, asking once."""
    send: Callable[..., Awaitable[dns.message.Message]] = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    try:
        return shown(await send(question(NAME), address.host, timeout=patience, port=address.port)) == FOUND
    except (OSError, EOFError, dns.exception.Timeout):
        return False


async def closed(reader: asyncio.StreamReader, within: float = 5.0) -> bool:
    async with asyncio.timeout(within):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


async def test_a_client_that_drips_bytes_is_closed_and_one_that_asks_stays(tmp_path: Path) -> None:
    async with server(tmp_path, tcp=TcpLimits(idle_seconds=1.5)) as address:
        slow_reader, slow = await asyncio.open_connection(address.host, address.port)
        honest_reader, honest = await asyncio.open_connection(address.host, address.port)

        async def drip() -> None:
            for octet in FRAMED:
                if slow.is_closing():
                    return
                slow.write(bytes((octet,)))
                await asyncio.sleep(0.2)

        async with own_tasks() as tasks:
            tasks.once("drip", drip())
            ended = tasks.once("closed", _until(closed(slow_reader, within=10.0)))
            answers = 0
            while not ended.done():
                honest.write(FRAMED)
                async with asyncio.timeout(5):
                    length = int.from_bytes(await honest_reader.readexactly(2), "big")
                    await honest_reader.readexactly(length)
                answers += 1
                await asyncio.sleep(0.3)
            assert answers >= 2
        for writer in (slow, honest):
            writer.close()


async def _until(condition: Awaitable[bool]) -> None:
    assert await condition


async def test_a_client_has_so_many_connections_and_no_more(tmp_path: Path) -> None:
    async with server(tmp_path, tcp=TcpLimits(per_client=3)) as address:
        kept = [await asyncio.open_connection(address.host, address.port) for _ in range(3)]
        for reader, writer in kept:
            writer.write(FRAMED)
            async with asyncio.timeout(5):
                await reader.readexactly(2)

        reader, over = await asyncio.open_connection(address.host, address.port)
        assert await closed(reader)
        other = await asyncio.open_connection(address.host, address.port, local_addr=("127.0.0.77", 0))
        other[1].write(FRAMED)
        async with asyncio.timeout(5):
            await other[0].readexactly(2)
        for writer in (over, other[1], *(writer for _, writer in kept)):
            writer.close()


async def test_a_client_that_does_not_read_its_answers_is_not_read_from(tmp_path: Path) -> None:
    async with server(tmp_path, tcp=TcpLimits(idle_seconds=1.0)) as address:
        _, greedy = await asyncio.open_connection(address.host, address.port, limit=1)
        greedy.write(FRAMED * 200_000)
        assert await served(address)
        assert await served(address, tcp=True)
        # It is paused, so it brings no more queries, so it is idle, so it goes.
        with pytest.raises(ConnectionError):
            await _write_on(greedy)
        greedy.transport.abort()


async def _write_on(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(10):
        while True:
            writer.write(FRAMED)
            await writer.drain()
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_ten_thousand_connections_leave_room_for_others(tmp_path: Path) -> None:
    wanted = 10_000
    raise_file_limit()
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < wanted + 1000:
        pytest.skip(f"this user may not open {wanted} files; CI lets it")
    idle: list[socket.socket] = []
    async with server(tmp_path, workers=1, tcp=TcpLimits(connections=wanted - 500)) as address:
        try:
            for number in range(wanted):
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                idle.append(sock)
                sock.setblocking(False)
                sock.bind((f"127.54.{number // 100 // 250}.{1 + number // 100 % 250}", 0))
                async with asyncio.timeout(5):
                    await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
                if number % 500 == 0:
                    assert await served(address)
            assert await served(address)
            assert await served(address, tcp=True)
        finally:
            for sock in idle:
                sock.close()


async def test_a_flood_from_one_prefix_does_not_starve_others(tmp_path: Path) -> None:
    async with server(tmp_path, workers=1) as address:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            flood.setblocking(False)
            flood.bind(("127.55.0.1", 0))

            async def pour() -> None:
                while True:
                    for _ in range(50):
                        try:
                            flood.sendto(QUERY, (address.host, address.port))
                        except BlockingIOError:
                            break
                    await asyncio.sleep(0)

            async with own_tasks() as tasks:
                tasks.start("flood", pour())
                # More than one worker can take: packets are lost in the kernel, whoever sent them. Clients try again.
                answered = [await patiently(address) for _ in range(10)]
            assert sum(answered) >= 9


async def patiently(address: Address) -> bool:
    """Whether it gets its answer as resolvers do: within three attempts."""
    for _ in range(3):
        if await served(address, patience=1.0):
            return True
    return False


async def test_dnstap_receives_what_passes(tmp_path: Path) -> None:
    frames: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await frame(reader) == b"" + dnstap.control_frame(dnstap.READY)[8:]
            body = dnstap.ACCEPT.to_bytes(4, "big") + dnstap.control_frame(dnstap.READY)[12:]
            writer.write(b"\0\0\0\0" + len(body).to_bytes(4, "big") + body)
            assert await frame(reader) == dnstap.control_frame(dnstap.START)[8:]
            while True:
                frames.append(await frame(reader))
        except asyncio.IncompleteReadError:
            writer.close()

    async def frame(reader: asyncio.StreamReader) -> bytes:
        length = int.from_bytes(await reader.readexactly(4), "big")
        if length == 0:
            length = int.from_bytes(await reader.readexactly(4), "big")
        return await reader.readexactly(length)

    path = tmp_path / "dnstap.sock"
    listener = await asyncio.start_unix_server(receive, path)
    async with listener, server(tmp_path, dnstap=str(path)) as address:

        async def tapped() -> bool:
            assert await served(address, tcp=True)
            return len(frames) >= 2

        await eventually(tapped, within=8.0)
        assert question(NAME).to_wire()[2:] in frames[0]


async def test_a_dnstap_receiver_that_is_away_delays_nothing(tmp_path: Path) -> None:
    async with server(tmp_path, dnstap=str(tmp_path / "nobody.sock"), log_queries=1) as address:
        assert await served(address)
