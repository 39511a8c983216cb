"""Move datagrams: take what waits in the socket, answer each at once, and let the loop breathe between batches."""

import asyncio
import socket
from collections.abc import Callable

from isthmus_dns.answering.answer import Responder
from isthmus_dns.clients.ratelimit import RateLimiter
from isthmus_dns.watching.traffic import Traffic

_BATCH = 64
_LAST = 4
"""Batches that are still answered when the socket closes."""
_LONGEST_QUERY = 4096

Respond = Callable[[bytes, bool, str], bytes | None]
See = Callable[[bytes, bytes | None, str, int, bool], None]
"""Looks at a query and its answer: packet, response, client, its port, whether over TCP."""


class UdpListener:
    """One socket of one worker. A plain reader beats a datagram protocol four times (no object per packet)."""

    def __init__(
        self,
        sock: socket.socket,
        responder: Responder,
        traffic: Traffic,
        clock: Callable[[], float],
        limiter: RateLimiter | None = None,
        see: See | None = None,
    ) -> None:
        sock.setblocking(False)
        self._limiter = limiter
        self._see = see
        self._six = sock.family == socket.AF_INET6
        self._sock = sock
        self._responder = responder
        self._traffic = traffic
        self._clock = clock

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer."""
        self._loop = loop
        loop.add_reader(self._sock.fileno(), self._drain)

    def close(self) -> None:
        """Answer what has arrived already, then close the socket."""
        self._loop.remove_reader(self._sock.fileno())
        for _ in range(_LAST):
            self._drain()
        self._sock.close()

    def _drain(self) -> None:
        receive, send, respond = self._sock.recvfrom, self._sock.sendto, self._responder.respond
        limiter, see = self._limiter, self._see
        buckets = limiter.buckets if limiter is not None else {}
        began = self._clock()
        answered = unsent = octets = asked = 0
        count = 0
        # One batch a turn of the loop: a change of the feed takes several turns to come in, and waits in each of them.
        for count in range(_BATCH):  # noqa: B007 - read after the loop
            try:
                packet, peer = receive(_LONGEST_QUERY)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of an earlier answer
            client = peer[0]
            asked += len(packet)
            response = respond(packet, False, client)
            if response is not None and limiter is not None:
                bucket = buckets.get(client)
                if bucket is None:
                    bucket = limiter.bucket(client)
                bucket[0] -= 1
                if bucket[0] < 0:
                    response = limiter.over(bucket, client, packet, response)
            if see is not None:
                see(packet, response, client, peer[1], False)
            if response is None:
                continue
            try:
                send(response, peer)
            except OSError:
                unsent += 1  # send buffer full, or a peer that cannot exist (port 0)
                continue
            answered += 1
            octets += len(response)
        else:
            count = _BATCH
        if count:
            self._traffic.batch("udp", count, answered, unsent, octets, self._clock() - began, asked, self._six)
