"""What a running DNS server gives the prefixes of the outside world: so many answers a second, and then headers."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import pytest

from fault.running_nameserver import FOUND, NAME, asked, asked_over_tcp, client, found
from isthmus_dns.listening.addresses import Address
from support.netns import Host, Network, NoNamespaces
from support.process import Process
from support.waiting import eventually
from unit.nameserver.builders import Feed, question, service, shown

pytestmark = pytest.mark.anyio

RATE = 40
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
            await eventually(lambda: found(other), within=10.0)
            sent, received = 0, []
            answered = 0
            clock = asyncio.get_running_loop().time
            began = clock()
            while clock() - began < 1.5 or sent < 25 * RATE:
                for _ in range(100):
                    flood.send(query)
                sent += 100
                answered += await found(other)  # asks once, and waits for its whole answer
                received += _arrived(flood)
                await asyncio.sleep(2 / RATE)  # it stays below the rate itself
            await asyncio.sleep(0.1)
            received += _arrived(flood)
            assert answered >= 10
            whole = [answer for answer in received if not answer[2] & 0x02]
            cut = [answer for answer in received if answer[2] & 0x02]
            # So many seconds have begun at most; everything else was cut to half as many headers, or withheld.
            assert RATE <= len(whole) <= (int(clock() - began) + 2) * RATE
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
