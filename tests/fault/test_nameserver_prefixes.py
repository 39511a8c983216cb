"""Response-rate limiting of IPv6 clients with real sockets: addresses of one /56 share, and all others are served."""

import asyncio
import socket
import time
from collections.abc import Iterator

import dns.flags
import dns.message
import pytest

from isthmus_dns.clients.ratelimit import RateLimiter
from isthmus_dns.listening.addresses import Address, listening_socket
from isthmus_dns.listening.mmsg import BatchedUdpListener, mmsg_available
from isthmus_dns.listening.udp import UdpListener
from isthmus_dns.watching.traffic import Traffic
from support.netns import Host, Network, NoNamespaces
from support.waiting import eventually
from unit.nameserver.builders import question, responder, service

pytestmark = [pytest.mark.anyio, pytest.mark.root]

SERVER = "2001:db8:ffff::53"
FLOODING = ["2001:db8:1:100::1", "2001:db8:1:100::2", "2001:db8:1:1ff:ffff::3"]
"""Three addresses in two /64s of one /56."""
OTHERS = ["2001:db8:1:200::1", "2001:db8:1:ff::1", "2001:db8:2:100::1"]
"""The next /56 above and below, and the same one of another /48."""
PRIVATE = "fd00:1::1"
RATE, QUERIES = 20, 300
PACKET = question("web.shop.svc.clusterset.local", "A", 1232).to_wire()


@pytest.fixture
def host() -> Iterator[Host]:
    """A host whose loopback network has all these addresses."""
    try:
        made = Network().__enter__()
    except NoNamespaces as error:
        pytest.skip(str(error))
    try:
        one = made.host("dns")
        try:
            for address in (SERVER, *FLOODING, *OTHERS, PRIVATE):
                one.ip("address", "add", f"{address}/128", "dev", "lo", "nodad")
        except NoNamespaces as error:
            pytest.skip(f"no IPv6 here: {error}")
        yield one
    finally:
        made.__exit__(None, None, None)


class Client:
    """A UDP client with an address of its own, and what it received: whole answers, and those cut to their header."""

    def __init__(self, address: str, server: tuple[str, int]) -> None:
        self.whole = self.cut = 0
        self._sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.bind((address, 0))
        self._sock.connect(server)

    def ask(self) -> None:
        self._sock.send(PACKET)

    def take(self) -> None:
        """Read what came."""
        while True:
            try:
                answer = dns.message.from_wire(self._sock.recv(4096))
            except BlockingIOError:
                return
            if answer.flags & dns.flags.TC:
                assert not answer.answer
                self.cut += 1
            else:
                assert answer.answer
                self.whole += 1

    def close(self) -> None:
        self._sock.close()


@pytest.mark.parametrize(
    "kind",
    [
        UdpListener,
        pytest.param(
            BatchedUdpListener,
            marks=pytest.mark.skipif(not mmsg_available(), reason="this system has no recvmmsg; Linux does"),
        ),
    ],
    ids=["one by one", "batched"],
)
async def test_a_flood_from_one_56_is_cut_while_all_others_are_served(kind: type[UdpListener], host: Host) -> None:
    limiter, traffic = RateLimiter(RATE), Traffic()
    with host.inside():
        sock = listening_socket(Address(SERVER, 0), socket.SOCK_DGRAM)
        where = (SERVER, sock.getsockname()[1])
        flooding = [Client(address, where) for address in FLOODING]
        others = [Client(address, where) for address in (*OTHERS, PRIVATE)]
    listener = kind(sock, responder(service("shop/web")), traffic, time.monotonic, limiter)
    listener.open(asyncio.get_running_loop())
    try:
        for number in range(QUERIES):
            flooding[number % 3].ask()
            if number % (QUERIES // RATE) == 0:  # as many as they may have
                for client in others:
                    client.ask()
            if number % 10 == 0:
                await asyncio.sleep(0)
        asked = QUERIES + RATE * len(others)
        await eventually(lambda: traffic.udp.requests == asked)
        for client in (*flooding, *others):
            client.take()

        assert sum(client.whole for client in flooding) == RATE, "what one /56 may have"
        assert sum(client.cut for client in flooding) == (QUERIES - RATE) // 2 == limiter.slipped == limiter.withheld
        assert [(client.whole, client.cut) for client in others] == [(RATE, 0)] * len(others)

        for _ in range(5 * RATE):  # private: without a limit
            others[-1].ask()
            await asyncio.sleep(0)
        await eventually(lambda: traffic.udp.requests == asked + 5 * RATE)
        others[-1].take()
        assert (others[-1].whole, others[-1].cut) == (6 * RATE, 0)

        limiter.tick()
        flooding[2].ask()
        await eventually(lambda: traffic.udp.requests == asked + 5 * RATE + 1)
        flooding[2].take()
        assert sum(client.whole for client in flooding) == RATE + 1, "the next second"
    finally:
        listener.close()
        for client in (*flooding, *others):
            client.close()
