"""Move queries over TCP: pipelined, with limits on connections, bytes and idle time (RFC 7766, RFC 9210)."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import msgspec

from isthmus_dns.listening.udp import Respond, See
from isthmus_dns.watching.traffic import Traffic

_LONGEST_QUERY = 4096
_TURN = 16
"""So many queries of one connection are answered before others have their turn."""


class TcpLimits(msgspec.Struct, frozen=True):
    """How many connections one worker keeps, in all and per client, and how long one may stay silent."""

    connections: int = 10_000
    per_client: int = 200
    idle_seconds: float = 10.0


class TcpListener:
    """One listening socket of one worker."""

    def __init__(
        self,
        sock: socket.socket,
        respond: Respond,
        traffic: Traffic,
        clock: Callable[[], float],
        limits: TcpLimits | None = None,
        see: See | None = None,
    ) -> None:
        self.see = see
        self.respond = respond
        self.traffic = traffic
        self.clock = clock
        self.limits = limits or TcpLimits()
        self._sock = sock
        # In the order of their last query: the first one has been silent longest.
        self._open: dict[_Connection, None] = {}
        self._clients: dict[str, int] = {}

    async def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept."""
        self._server = await loop.create_server(lambda: _Connection(self), sock=self._sock, backlog=1024)

    def close(self) -> None:
        """Stop accepting and end every connection."""
        self._server.close()
        for connection in tuple(self._open):
            connection.end()

    def sweep(self) -> None:
        """End connections that brought no whole query for too long; single bytes do not count (slow loris)."""
        oldest = self.clock() - self.limits.idle_seconds
        for connection in tuple(self._open):
            if connection.last_query > oldest:
                return
            connection.end()

    def admit(self, connection: "_Connection", client: str) -> bool:
        """Whether a new connection may stay. When all places are taken, the longest silent one has to go for it."""
        if self._clients.get(client, 0) >= self.limits.per_client:
            self.traffic.connections_refused += 1
            return False
        if len(self._open) >= self.limits.connections:
            self.traffic.connections_refused += 1
            next(iter(self._open)).abort()
        self._clients[client] = self._clients.get(client, 0) + 1
        self._open[connection] = None
        self.traffic.connections += 1
        return True

    def touch(self, connection: "_Connection") -> None:
        """A whole query came: the connection is the youngest again."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def forget(self, connection: "_Connection", client: str) -> None:
        """The connection is gone."""
        if connection not in self._open:
            return
        del self._open[connection]
        self.traffic.connections -= 1
        left = self._clients[client] - 1
        if left:
            self._clients[client] = left
        else:
            del self._clients[client]


class _Connection(asyncio.Protocol):
    """One client: two bytes of length, then a query, as often as it likes, without waiting for answers."""

    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._buffer = b""
        self._at = 0
        self._client = ""
        self._port = 0
        self._paused = False
        self._resting = False
        self._eof = False
        self._transport: asyncio.Transport | None = None
        self.last_query = listener.clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses of it
        peer = transport.get_extra_info("peername")
        self._client, self._port = peer[:2] if peer else ("", 0)
        self._transport = transport
        if not self._listener.admit(self, self._client):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self, self._client)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        if not self._resting:
            self._answer()

    def eof_received(self) -> bool:
        self._eof = True
        return self._paused or self._resting  # what was asked before the client's end of stream is still answered

    def pause_writing(self) -> None:
        # The client does not read its answers: take no more queries from it.
        self._paused = True
        self._stop_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if not self._resting:
            self._go_on()

    def _rest(self) -> None:
        """Let others have their turn before the rest of what came is answered."""
        self._resting = True
        self._stop_reading()
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        if self._transport is None or self._transport.is_closing():
            return
        self._answer()
        if self._paused or self._resting or self._transport.is_closing():
            return
        if self._eof:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _stop_reading(self) -> None:
        if self._transport is not None and not self._eof and not self._transport.is_closing():
            self._transport.pause_reading()

    def end(self) -> None:
        """Close after what is already written; a client that does not read is cut off."""
        if self._transport is not None:
            if self._paused:
                self._transport.abort()
            else:
                self._transport.close()

    def abort(self) -> None:
        """Close at once, and free the place at once."""
        self._listener.forget(self, self._client)
        if self._transport is not None:
            self._transport.abort()

    def _answer(self) -> None:
        listener, buffer, at = self._listener, self._buffer, self._at
        began = listener.clock()
        requests = answered = octets = asked = 0
        while not self._paused and len(buffer) - at >= 2 and self._transport is not None:
            if requests == _TURN:
                self._rest()
                break
            length = buffer[at] << 8 | buffer[at + 1]
            if length > _LONGEST_QUERY or length < 12:
                self._transport.close()  # no query is like that: the stream is out of step or hostile
                at = len(buffer)
                break
            if len(buffer) - at - 2 < length:
                break
            packet = buffer[at + 2 : at + 2 + length]
            response = listener.respond(packet, True, self._client)
            if listener.see is not None:
                listener.see(packet, response, self._client, self._port, True)
            at += 2 + length
            asked += length
            requests += 1
            if response is not None:
                answered += 1
                octets += len(response)
                self._transport.write(len(response).to_bytes(2, "big") + response)
        # A long buffer is not copied for each turn, but no more of it is kept than has to be.
        self._buffer, self._at = (buffer, at) if self._resting else (buffer[at:], 0)
        if requests:
            self.last_query = listener.clock()
            listener.touch(self)
            spent = self.last_query - began
            listener.traffic.batch("tcp", requests, answered, 0, octets, spent, asked, ":" in self._client)
