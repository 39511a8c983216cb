"""A client that asks a thousand things at once gets them answered, but others have their turn in between."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from isthmus_dns.listening.tcp import TcpListener, _Connection
from isthmus_dns.watching.traffic import Traffic
from property.nameserver.fuzz_packets import _Wire
from unit.nameserver.builders import question, responder, service

pytestmark = pytest.mark.anyio

SERVER = responder(service("shop/web"))
QUERY = question("web.shop.svc.clusterset.local", id=7).to_wire()
FRAMED = len(QUERY).to_bytes(2, "big") + QUERY
TURN = 16


def connect() -> tuple[_Connection, _Wire]:
    sock = socket.socket()
    sock.close()
    wire = _Wire(room=10**6)
    connection = _Connection(TcpListener(sock, SERVER.respond, Traffic(), lambda: 0.0))
    connection.connection_made(wire)
    return connection, wire


async def test_a_thousand_queries_at_once_are_answered_a_few_at_a_time() -> None:
    connection, wire = connect()

    connection.data_received(FRAMED * 1000)

    assert len(wire.answers) == TURN
    assert wire.stopped, "nothing more is read from a client whose queries wait"
    turns = 1
    while wire.stopped:
        await asyncio.sleep(0)
        turns += 1
        assert len(wire.answers) <= TURN * turns
    assert len(wire.answers) == 1000


async def test_what_was_asked_before_the_end_of_the_stream_is_answered_before_it_is_closed() -> None:
    connection, wire = connect()

    connection.data_received(FRAMED * 100)
    assert connection.eof_received() is True, "the transport stays open"
    while not wire.closed:
        await asyncio.sleep(0)

    assert len(wire.answers) == 100


ENDS: dict[str, Callable[[_Connection], None]] = {
    "lost": lambda connection: connection.connection_lost(None),
    "closed": _Connection.end,
    "aborted": _Connection.abort,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_a_connection_that_ends_between_its_turns_is_left_alone(end: Callable[[_Connection], None]) -> None:
    connection, wire = connect()

    connection.data_received(FRAMED * 100)
    end(connection)
    for _ in range(10):
        await asyncio.sleep(0)

    assert len(wire.answers) == TURN
