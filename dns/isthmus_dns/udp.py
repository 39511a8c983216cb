"""Move datagrams: take what waits in the socket, answer each at once, and let the loop breathe between batches."""

import asyncio
import socket
from collections.abc import Callable

from isthmus_dns.traffic import Traffic

_BATCH = 128
_LONGEST_QUERY = 4096

Respond = Callable[[bytes, bool, str], bytes | None]


class UdpListener:
    """One socket of one worker. A plain reader beats a datagram protocol four times (no object per packet)."""

    def __init__(self, sock: socket.socket, respond: Respond, traffic: Traffic, clock: Callable[[], float]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._respond = respond
        self._traffic = traffic
        self._clock = clock

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer."""
        self._loop = loop
        loop.add_reader(self._sock.fileno(), self._drain)

    def close(self) -> None:
        """Answer what has arrived already, then close the socket."""
        self._loop.remove_reader(self._sock.fileno())
        self._drain()
        self._sock.close()

    def _drain(self) -> None:
        receive, send, respond = self._sock.recvfrom, self._sock.sendto, self._respond
        began = self._clock()
        answered = unsent = octets = 0
        count = 0
        # Bounded, so that TCP, the feed and the clock get their turn under a flood.
        for count in range(_BATCH):  # noqa: B007
            try:
                packet, peer = receive(_LONGEST_QUERY)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of an earlier answer
            response = respond(packet, False, peer[0])
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
            self._traffic.batch("udp", count, answered, unsent, octets, self._clock() - began)
