"""The DNS server as its clients meet it: real sockets, a real feed over gRPC, dnspython as the client."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import dns.asyncquery
import dns.edns
import dns.exception
import dns.message
import pytest

from isthmus_core.errors import InvalidInput
from isthmus_dns import run
from isthmus_dns.listening.addresses import Address, claim_addresses
from isthmus_kit.tasks import own_tasks
from support.waiting import eventually
from unit.nameserver.builders import Feed, headless, host, question, service, shown

pytestmark = pytest.mark.anyio

HOST = "127.53.0.1"
NAME = "web.shop.svc.clusterset.local"


class Server:
    """A running server under test."""

    def __init__(self, address: Address, web: int) -> None:
        self.address = address
        self.web = web

    async def ask(
        self, name: str = NAME, rtype: str = "A", edns: int | None = 1232, tcp: bool = False
    ) -> dns.message.Message:
        query = question(name, rtype, edns)
        send: Callable[..., Awaitable[dns.message.Message]] = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await send(query, self.address.host, timeout=2.0, port=self.address.port)

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.web}{path}") as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def server(feed: Path, **options: Any) -> AsyncIterator[Server]:
    loop = asyncio.get_running_loop()
    up: asyncio.Future[Server] = loop.create_future()
    defaults: dict[str, Any] = {"listen": (f"{HOST}:0",), "workers": 0, "web": "127.0.0.1:0", "log_level": "warning"}
    async with own_tasks() as tasks:
        tasks.start(
            "server", run(feed=feed, started=lambda to, web: up.set_result(Server(to[0], web)), **(defaults | options))
        )
        async with asyncio.timeout(10):
            yield await up


async def answers(under_test: Server, expected: str, name: str = NAME, rtype: str = "A") -> None:
    """Wait until the server answers so."""

    async def same() -> bool:
        try:
            return shown(await under_test.ask(name, rtype)) == expected
        except (OSError, dns.exception.Timeout):
            return False

    await eventually(same, within=10.0)


def reason(response: dns.message.Message) -> list[int]:
    """The extended errors of an answer."""
    return [int(option.code) for option in response.options if isinstance(option, dns.edns.EDEOption)]


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tmp_path / "zone.sock")


@pytest.mark.parametrize("workers", [0, 2])
async def test_from_not_synced_to_answers_to_changes(feed: Feed, workers: int) -> None:
    async with server(feed.path, workers=workers) as under_test:
        await answers(under_test, "SERVFAIL")
        assert reason(await under_test.ask()) == [14]
        status, text = await under_test.get("/readyz")
        assert status == 503
        assert "worker 0" in text

        async with feed.serving():
            feed.publish([service("shop/web"), headless("shop/db", [host("10.9.0.1", "db-0")])])
            await answers(under_test, "NOERROR | A 10.1.2.3")
            await answers(under_test, "NOERROR | A 10.9.0.1", "db-0.east.db.shop.svc.clusterset.local")

            feed.publish([service("shop/web", ["10.7.7.7"])])
            await answers(under_test, "NOERROR | A 10.7.7.7")
            feed.publish(removed=["shop/web"])
            await answers(under_test, "NXDOMAIN")

            async def ready() -> bool:
                return (await under_test.get("/readyz"))[0] == 200

            await eventually(ready)
            text = (await under_test.get("/metrics"))[1]
            assert 'isthmus_dns_requests_total{family="1",proto="udp",worker="0"}' in text
            assert 'isthmus_dns_responses_total{rcode="SERVFAIL",worker="0"}' in text


async def test_a_refused_service_is_named_to_the_agent_and_the_others_go_on(feed: Feed) -> None:
    async with server(feed.path) as under_test, feed.serving():
        feed.publish([service("shop/bad", ["nonsense"]), service("shop/web")])

        await answers(under_test, "NOERROR | A 10.1.2.3")
        await eventually(lambda: "not an IP address" in feed.refused.get("shop/bad", ""))


async def test_without_the_feed_the_last_state_is_served_and_marked_after_a_while(feed: Feed) -> None:
    async with server(feed.path, stale_after=0.2) as under_test:
        async with feed.serving():
            feed.publish([service("shop/web")])
            await answers(under_test, "NOERROR | A 10.1.2.3")
            assert reason(await under_test.ask()) == []

        async def marked() -> bool:
            response = await under_test.ask()
            assert shown(response) == "NOERROR | A 10.1.2.3"
            return reason(response) == [3]

        await eventually(marked, within=8.0)

        async with feed.serving():
            feed.publish([service("shop/web", ["10.8.8.8"])])
            await answers(under_test, "NOERROR | A 10.8.8.8")
            assert reason(await under_test.ask()) == []


async def test_tcp_queries_are_pipelined_and_answered_until_the_client_ends(feed: Feed) -> None:
    async with server(feed.path) as under_test, feed.serving():
        feed.publish([service("shop/web")])
        await answers(under_test, "NOERROR | A 10.1.2.3")
        assert shown(await under_test.ask(tcp=True)) == "NOERROR | A 10.1.2.3"

        reader, writer = await asyncio.open_connection(under_test.address.host, under_test.address.port)
        queries = [question(NAME if n % 2 else f"n{n}.clusterset.local").to_wire() for n in range(200)]
        stream = b"".join(len(query).to_bytes(2, "big") + query for query in queries)
        for at in range(0, len(stream), 1001):  # queries arrive in pieces
            writer.write(stream[at : at + 1001])
            await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(5):
            received = await reader.read()
            for query in queries:
                length = int.from_bytes(received[:2], "big")
                assert dns.message.from_wire(received[2 : 2 + length]).id == int.from_bytes(query[:2], "big")
                received = received[2 + length :]
        assert received == b""
        writer.close()
        await writer.wait_closed()


async def test_a_stream_that_is_out_of_step_is_closed(feed: Feed) -> None:
    async with server(feed.path) as under_test:
        for hostile in (b"\xff\xff" + b"x" * 100, b"\0\3abc"):
            reader, writer = await asyncio.open_connection(under_test.address.host, under_test.address.port)
            writer.write(hostile)
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()


async def test_a_port_in_use_is_told_in_one_sentence(feed: Feed) -> None:
    (address,) = claim_addresses([Address(HOST, 0)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        # Sharing it as another server of ours would: that must not go unnoticed.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((address.host, address.port))
        with pytest.raises(InvalidInput, match=f"cannot listen on {address}.*Another process listens there"):
            await run(feed=feed.path, listen=(str(address),))


@pytest.mark.parametrize("workers", [0, 1])
async def test_a_port_that_is_taken_in_the_last_moment_is_told_too(feed: Feed, workers: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:

        def take(addresses: tuple[Address, ...], _: int) -> None:
            taken.bind((addresses[0].host, addresses[0].port))

        with pytest.raises(InvalidInput, match="cannot listen on"):
            await run(feed=feed.path, listen=(f"{HOST}:0",), workers=workers, started=take, log_level="critical")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every port")
async def test_a_privileged_port_is_told_in_one_sentence(feed: Feed) -> None:
    start = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if start <= 53:
        pytest.skip("this system lets everybody use port 53")
    with pytest.raises(InvalidInput, match="Ports below 1024 need privileges"):
        await run(feed=feed.path, listen=(f"{HOST}:53",))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"feed": Path("/nowhere/at/all/zone.sock")}, "the folder /nowhere/at/all of the zone feed does not exist"),
        ({"feed": Path("/etc/passwd")}, "/etc/passwd is not a socket"),
        ({"feed": Path("/tmp") / ("x" * 120)}, "longer than 107 bytes"),
        ({"listen": ("localhost:53",)}, "is not an address to listen on"),
        ({"listen": ("127.0.0.1:99999",)}, "not a number from 0 to 65535"),
        ({"listen": ("192.0.2.1:5353",)}, "not of this machine"),
        ({"listen": ()}, "no address to listen on"),
        ({"ttl": -1}, "not a number from 0 to 86400"),
        ({"workers": 1000}, "not a number from 0 to 64"),
        ({"zones": ()}, "at least one zone"),
    ],
)
async def test_wrong_arguments_are_told_in_one_sentence(feed: Feed, options: dict[str, Any], sentence: str) -> None:
    arguments: dict[str, Any] = {"feed": feed.path, "listen": (f"{HOST}:0",)} | options
    with pytest.raises(InvalidInput, match=sentence) as told:
        await run(**arguments)
    assert "\n" not in str(told.value)
