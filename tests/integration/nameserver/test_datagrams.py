"""Both ways to move datagrams keep one contract: every query that earns an answer gets it, at its own address."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import dns.edns
import pytest

from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.cookies import Cookies
from isthmus_dns.clients.ratelimit import RateLimiter
from isthmus_dns.listening.addresses import Address, claim_addresses, listening_socket
from isthmus_dns.listening.mmsg import BatchedUdpListener, mmsg_available
from isthmus_dns.listening.udp import UdpListener
from isthmus_dns.message import wire
from isthmus_dns.watching.traffic import Traffic, rcode_counts
from support.waiting import eventually
from unit.nameserver.builders import headless, host, question, responder, service

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "kind",
        [
            UdpListener,
            pytest.param(
                BatchedUdpListener,
                marks=pytest.mark.skipif(not mmsg_available(), reason="this system has no recvmmsg; Linux does"),
            ),
        ],
        ids=["one by one", "batched"],
    ),
]

HOSTS = [f"127.53.1.{n}" for n in range(1, 6)]
NOW = 1_700_000_000
SERVER = responder(service("shop/web"), headless("shop/db", [host(f"10.0.0.{n}", f"h-{n}") for n in range(70)]))


@asynccontextmanager
async def listening(
    kind: type[UdpListener],
    ip: str = "127.53.1.9",
    limiter: RateLimiter | None = None,
    server: Responder = SERVER,
    watched: bool = True,
) -> AsyncIterator[tuple[Address, Traffic, list[tuple[str, int]]]]:
    (address,) = claim_addresses([Address(ip, 0)])
    traffic = Traffic()
    seen: list[tuple[str, int]] = []
    listener = kind(
        listening_socket(address, socket.SOCK_DGRAM),
        server,
        traffic,
        time.monotonic,
        limiter,
        (lambda packet, response, client, port, tcp: seen.append((client, port))) if watched else None,
    )
    listener.open(asyncio.get_running_loop())
    try:
        yield address, traffic, seen
    finally:
        listener.close()


async def test_many_clients_at_once_get_each_their_own_answers(kind: type[UdpListener]) -> None:
    async with listening(kind) as (address, traffic, seen):
        clients = []
        for ip in HOSTS:
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.bind((ip, 0))
            client.setblocking(False)
            clients.append(client)
        expected: dict[int, set[bytes]] = {client.fileno(): set() for client in clients}
        for number in range(300):
            client = clients[number % len(clients)]
            name = ("web.shop.svc", f"n{number}", "db.shop.svc")[number % 3] + ".clusterset.local"
            packet = question(name, "A", 1232, id=number).to_wire()
            if number % 7 == 0:
                packet = b"\0" * (number % 12)  # gets no answer; those after it in the batch still do
            answer = SERVER.respond(packet)
            if answer is not None:
                expected[client.fileno()].add(answer)
            client.sendto(packet, (address.host, address.port))
        received: dict[int, set[bytes]] = {client.fileno(): set() for client in clients}

        def all_received() -> bool:
            for client in clients:
                try:
                    while True:
                        received[client.fileno()].add(client.recv(4096))
                except BlockingIOError:
                    continue
            return received == expected

        await eventually(all_received)
        assert traffic.udp.requests == 300
        assert traffic.udp.responses == sum(map(len, expected.values()))
        assert set(seen) == {client.getsockname() for client in clients}
        for client in clients:
            client.close()


async def test_queries_that_come_again_are_answered_as_before(kind: type[UdpListener]) -> None:
    padding = dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(400))
    forms = [
        question("web.shop.svc.clusterset.local").to_wire(),
        question("WEB.shop.svc.clusterset.local", "A", 1232).to_wire(),
        question("nope.clusterset.local", "A", 1232).to_wire(),
        question("db.shop.svc.clusterset.local", "A", 1232).to_wire(),
        question("web.shop.svc.clusterset.local", "MX").to_wire(),
        question("web.shop.svc.clusterset.local", "A", 1232, options=[padding]).to_wire(),
        b"\0\1\x80\0",  # gets no answer
        question("web.shop.svc.clusterset.local", "AXFR").to_wire(),
    ]
    assert max(map(len, forms)) > 400
    zone = service("shop/web"), headless("shop/db", [host(f"10.0.0.{n}") for n in range(9)])
    server, model = responder(*zone), responder(*zone)
    limiter = RateLimiter(rate=1)  # private clients have none
    async with listening(kind, limiter=limiter, server=server, watched=False) as (address, traffic, _):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((HOSTS[0], 0))
            client.settimeout(5)
            number = 0
            for size in (1, 2, 5, 3, 100, 64, 1, 200, 4):  # single queries, a few, whole batches
                expected = set()
                for _ in range(size):
                    packet = number.to_bytes(2, "big") + forms[number % len(forms)][2:]
                    number += 1
                    client.sendto(packet, (address.host, address.port))
                    if (answer := model.respond_slowly(packet, False, HOSTS[0])) is not None:
                        expected.add(answer)
                received = {await asyncio.to_thread(client.recv, 4096) for _ in expected}
                assert received == expected
        await eventually(lambda: traffic.udp.requests == number)
        assert rcode_counts(traffic, server.nxdomain, server.outcomes) == {
            wire.RCODES[code]: times for code, times in model.outcomes.items()
        }
        assert traffic.udp.responses == sum(model.outcomes.values())
        found = model.outcomes[wire.NOERROR] + model.outcomes[wire.NXDOMAIN]
        assert sum(server.take_asked().values()) == pytest.approx(found)
        assert server.remembered.answers
        assert server.remembered.denials


async def test_ipv6_clients_are_answered(kind: type[UdpListener]) -> None:
    try:
        claim_addresses([Address("::1", 0)])
    except Exception as error:  # noqa: BLE001 - whatever it is, there is no IPv6 here
        pytest.skip(f"no IPv6 loopback here: {error}")
    query = question("web.shop.svc.clusterset.local").to_wire()
    for watched in (True, False):
        async with listening(kind, "::1", RateLimiter(rate=1), watched=watched) as (address, _, seen):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.settimeout(5)
                client.bind(("::1", 0))
                for burst in (1, 1, 9, 1):
                    for _ in range(burst):
                        client.sendto(query, (address.host, address.port))
                    for _ in range(burst):
                        assert await asyncio.to_thread(client.recv, 4096) == SERVER.respond(query)
                assert seen == [("::1", client.getsockname()[1])] * (12 if watched else 0)


async def test_the_rate_limit_holds_back_answers(kind: type[UdpListener]) -> None:
    limiter = RateLimiter(rate=5, slip=2, exempt=())
    async with listening(kind, limiter=limiter) as (address, traffic, _):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((HOSTS[0], 0))
            for _ in range(25):
                client.sendto(question("web.shop.svc.clusterset.local").to_wire(), (address.host, address.port))
            await eventually(lambda: traffic.udp.requests == 25)
        assert (limiter.withheld, limiter.slipped) == (10, 10)
        assert traffic.udp.responses == 15


async def test_a_cookie_is_heeded_for_its_own_client_only(kind: type[UdpListener]) -> None:
    cookies = Cookies(bytes(16))
    server = responder(service("shop/web"), features=Features(cookies=cookies))
    server.tick(NOW)
    whole = cookies.judge(b"theirown", HOSTS[0], NOW)[1]
    option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, whole)
    name = "web.shop.svc.clusterset.local"
    packets = [question(name, "A", 1232, id=number, options=[option]).to_wire() for number in range(20)]

    async def answers(ip: str) -> set[bytes]:
        before = traffic.udp.responses
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((ip, 0))
            client.settimeout(5)
            client.connect((address.host, address.port))
            for packet in packets:
                client.send(packet)
            await eventually(lambda: traffic.udp.responses == before + len(packets))
            return {client.recv(4096) for _ in packets}

    async with listening(kind, server=server) as (address, traffic, _):
        for _ in range(3):
            for ip in HOSTS[:2]:
                assert await answers(ip) == {server.respond_slowly(packet, False, ip) for packet in packets}
        assert {client for _, client in server.remembered.proven} == {HOSTS[0]}


async def test_others_have_their_turn_after_each_batch(kind: type[UdpListener]) -> None:
    async with listening(kind, watched=False) as (address, traffic, _):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((HOSTS[0], 0))
            for number in range(200):
                packet = question("web.shop.svc.clusterset.local", id=number).to_wire()
                client.sendto(packet, (address.host, address.port))
            answered = [0]
            while answered[-1] < 200:
                await asyncio.sleep(0)
                answered.append(traffic.udp.requests)
        assert max(after - before for before, after in pairwise(answered)) == 64
