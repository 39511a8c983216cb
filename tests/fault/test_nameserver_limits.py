"""What a running DNS server gives a client: bytes over UDP, and places, time and memory over TCP."""

import asyncio
import socket
import sys
from contextlib import suppress
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import pytest

from fault.running_nameserver import FOUND, NAME, asked, asked_over_tcp, client, found, server
from isthmus_dns.listening.tcp import TcpLimits
from support.process import Process
from unit.nameserver.builders import question, shown

pytestmark = pytest.mark.anyio


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
                assert await found(sock)


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
                assert await found(sock)
                assert shown(dns.message.from_wire(await asked_over_tcp(address, question(NAME).to_wire()))) == FOUND
            pipelines.kill()
