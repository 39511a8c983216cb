"""Rules for bytes that come from clients: datagrams, streams, cookies."""

import asyncio
import socket
from contextlib import suppress

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype

from isthmus_dns.answering.answer import Responder
from isthmus_dns.clients.cookies import Cookies, Standing
from isthmus_dns.clients.ratelimit import RateLimiter
from isthmus_dns.listening.mmsg import BatchedUdpListener, mmsg_available
from isthmus_dns.listening.tcp import TcpListener, _Connection
from isthmus_dns.listening.udp import UdpListener
from isthmus_dns.watching.traffic import Traffic
from property.nameserver.fuzz_servers import (
    CLIENT,
    NOW,
    SECRET,
    SERVERS,
    STRANGER,
)

# One packet, over UDP or TCP.


def datagram(data: bytes) -> None:
    """One packet: both ways answer it alike, and the answer is well-formed, short enough and about this question."""
    choice, packet = data[0] if data else 0, data[1:]
    server, tcp = SERVERS[(choice & 0x7F) % len(SERVERS)], choice >= 128
    response = server.respond(packet, tcp, CLIENT)
    for _ in range(3):  # the slow way teaches the fast one, and what came twice is remembered
        for client, over_tcp in ((STRANGER, tcp), (CLIENT, not tcp), (CLIENT, tcp)):
            assert server.respond(packet, over_tcp, client) == server.respond_slowly(packet, over_tcp, client)
    assert server.respond(packet, tcp, CLIENT) == response
    server.take_asked()
    if response is None:
        assert len(packet) < 12 or packet[2] & 0x80, "only responses and fragments of a header get no answer"
    else:
        well_formed(packet, response, tcp)


def well_formed(packet: bytes, response: bytes, tcp: bool) -> None:
    answer = dns.message.from_wire(response)
    assert response[:2] == packet[:2]
    assert response[2] & 0xF9 == 0x80 | packet[2] & 0x79, "QR, opcode and RD, nothing else copied"
    assert response[3] & 0xF0 == 0, "RA, Z, AD and CD mean nothing here"
    assert not (answer.flags & dns.flags.AA) or answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
    if response[5]:
        asked = 12 + len(answer.question[0].name.to_wire() or b"") + 4
        assert response[12:asked] == packet[12:asked], "the question comes back byte for byte"
        kinds = {answer.question[0].rdtype, dns.rdatatype.HINFO}
        assert all(rrset.name == answer.question[0].name and rrset.rdtype in kinds for rrset in answer.answer)
    else:
        assert not answer.answer and not answer.authority
    assert int.from_bytes(response[6:8], "big") == sum(map(len, answer.answer)), "no record twice: RFC 2181, section 5"
    negative = [rrset for rrset in answer.authority if rrset.rdtype == dns.rdatatype.SOA]
    assert not (answer.answer and negative)
    try:
        query = dns.message.from_wire(packet)
    except (dns.exception.DNSException, ValueError):
        query = None
    payload = query.payload if query is not None and query.edns >= 0 else 0
    limit = 65535 if tcp else min(max(payload, 512), 1232) if query is not None else 1232
    assert len(response) <= limit
    if answer.flags & dns.flags.TC:
        assert not tcp and not answer.answer
    elif answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        # A cookie grows by 16 bytes, a server id and an extended error may be added: no more comes back than came.
        assert len(response) <= max(len(packet), 12) + 100
    if query is not None and _beyond_doubt(query, packet):
        assert answer.rcode() != dns.rcode.FORMERR, "a good query is not refused as malformed"


def _beyond_doubt(query: dns.message.Message, packet: bytes) -> bool:
    """Whether nothing about this query could be called a format error."""
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1 or query.answer or query.authority:
        return False
    asked = query.question[0]
    name = asked.name.to_wire() or b""
    meta = (dns.rdatatype.OPT, dns.rdatatype.TKEY, dns.rdatatype.TSIG)
    plain = packet[12 : 12 + len(name)] == name and asked.rdtype not in meta
    # The contents of these two have rules of their own; further records may be cut short in ways that dnspython mends.
    return plain and not query.additional and not any(option.otype in (8, 10) for option in query.options)


# Many datagrams at once, through real sockets.

_HOSTS = ("127.0.0.1", "127.0.0.2")
_TAKEN = {UdpListener: 4096, BatchedUdpListener: 2048}
"""How much of a longer packet each listener takes."""


def batch(data: bytes) -> None:
    """Packets of two clients in one batch: each gets its own answers, in order, at its own address."""
    choice, octets = data[0] if data else 0, data[1:]
    server = SERVERS[choice % len(SERVERS)]
    kind = BatchedUdpListener if choice & 0x80 and mmsg_available() else UdpListener
    seen: list[tuple[bytes, bytes | None, str]] = []
    packets = [(at % 2 if choice & 0x20 else 0, packet) for at, packet in enumerate(_pieces(octets))]
    with _bound(_HOSTS[0]) as ours, _bound(_HOSTS[0]) as one, _bound(_HOSTS[1]) as other:
        listener = kind(
            *(ours, server, Traffic(), lambda: 0.0, RateLimiter(1000) if choice & 0x10 else None),
            (lambda packet, answer, client, port, tcp: seen.append((packet, answer, client)))
            if choice & 0x40
            else None,
        )
        for who, packet in packets:
            (one, other)[who].sendto(packet, ours.getsockname())
        taken = [(who, packet[: _TAKEN[kind]]) for who, packet in packets]
        for _ in range(2):
            listener._drain()
        answers = [server.respond_slowly(packet, False, _HOSTS[who]) for who, packet in taken]
        for number, client in enumerate((one, other)):
            expected = [answer for (who, _), answer in zip(taken, answers, strict=True) if who == number and answer]
            assert _received(client) == expected
    server.take_asked()
    if choice & 0x40:
        asked = [(packet, answer, _HOSTS[who]) for (who, packet), answer in zip(taken, answers, strict=True)]
        assert sorted(seen, key=repr) == sorted(asked, key=repr)


def _pieces(octets: bytes) -> list[bytes]:
    """Packets with two bytes of length each, as over TCP, but short and long ones too; at most seventy."""
    found: list[bytes] = []
    at = 0
    while at + 2 <= len(octets) and len(found) < 70:
        length = int.from_bytes(octets[at : at + 2], "big") & 0xFFF
        found.append(octets[at + 2 : at + 2 + length])
        at += 2 + length
    return found


def _bound(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, 0))
    return sock


def _received(client: socket.socket) -> list[bytes]:
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(client.recv(65536))
    return found


# A TCP stream.


class _Wire(asyncio.Transport):
    """A client's side of a connection, which takes `room` answers before it has to be waited for."""

    def __init__(self, room: int) -> None:
        super().__init__({"peername": (CLIENT, 4711)})
        self.answers: list[bytes] = []
        self.closed = self.paused = self.stopped = False
        self.connection: _Connection | None = None
        self._room = room

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.answers.append(bytes(data))
        if len(self.answers) % self._room == 0 and self.connection is not None:
            self.paused = True
            self.connection.pause_writing()

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.stopped = True

    def resume_reading(self) -> None:
        self.stopped = False


def stream(data: bytes) -> None:
    """A stream of queries: however it is cut into pieces, every whole one is answered in order until one is hostile."""
    _LOOP.run_until_complete(_stream(data))


_LOOP = asyncio.new_event_loop()


async def _stream(data: bytes) -> None:
    choice, octets = data[0] if data else 0, data[1:]
    piece, room = (choice & 0x1F) * 7 + 1, (choice >> 5) + 1
    server = SERVERS[0]
    expected, hostile = _framed(server, octets)
    sock = socket.socket()
    sock.close()
    listener = TcpListener(sock, server.respond, Traffic(), lambda: 0.0)
    wire = _Wire(room)
    connection = wire.connection = _Connection(listener)
    connection.connection_made(wire)
    at = 0
    while not wire.closed and (at < len(octets) or wire.stopped):
        if wire.paused:
            wire.paused = False
            connection.resume_writing()
        elif wire.stopped:
            await asyncio.sleep(0)  # it rests: others have their turn
        else:
            connection.data_received(octets[at : at + piece])
            at += piece
    assert wire.answers == expected
    assert wire.closed is hostile
    connection.connection_lost(None)
    assert listener.traffic.connections == 0
    assert listener.traffic.tcp.responses == len(expected)
    server.take_asked()


def _framed(server: Responder, octets: bytes) -> tuple[list[bytes], bool]:
    """The framed answers to the whole queries of a stream; and whether it holds a length that no query has."""
    answers: list[bytes] = []
    at = 0
    while at + 2 <= len(octets):
        length = int.from_bytes(octets[at : at + 2], "big")
        if not 12 <= length <= 4096:
            return answers, True
        if at + 2 + length > len(octets):
            break
        response = server.respond(octets[at + 2 : at + 2 + length], True, CLIENT)
        if response is not None:
            answers.append(len(response).to_bytes(2, "big") + response)
        at += 2 + length
    return answers, False


# DNS cookies.


_COOKIED = (CLIENT, "192.0.2.2", "2001:db8::7", "2001:db8::c000:201", "fe80::7%2")
"""Clients of cookies, two of them with the same last bytes."""


def cookie(data: bytes) -> None:
    """A cookie: never believed unless it is the one that this server made for this client at that time."""
    choice, body = data[0] if data else 0, data[1:]
    client = _COOKIED[(choice >> 1) % len(_COOKIED)]
    cookies = Cookies(SECRET)
    if choice & 1 and len(body) >= 12:  # a good one, of a time near now, with some of its bytes changed
        made = cookies.judge(body[:8], client, NOW - (int.from_bytes(body[8:10], "big") - 0x8000) // 8)[1]
        at = body[10] % len(made)
        body = made[:at] + bytes((made[at] ^ body[11],)) + made[at + 1 :]
    standing, whole = cookies.judge(body, client, NOW)
    assert (standing is Standing.MALFORMED) == (len(body) not in (8, *range(16, 41)))
    if standing is Standing.MALFORMED:
        assert whole == b""
        return
    assert len(whole) == 24
    assert whole[:8] == body[:8]
    for each in _COOKIED:
        assert (cookies.judge(whole, each, NOW)[0] is Standing.VERIFIED) == (each == client)
    assert Cookies(SECRET[::-1]).judge(whole, client, NOW)[0] is Standing.UNKNOWN
    if standing is Standing.VERIFIED:
        made_at = int.from_bytes(body[12:16], "big")
        assert body == cookies.judge(body[:8], client, made_at)[1]
        assert -300 <= NOW - made_at <= 3600
