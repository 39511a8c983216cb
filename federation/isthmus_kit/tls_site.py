"""Take the TLS connections of strangers: a few seconds for each to shake hands, and little memory until it has."""

import asyncio
import logging
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable

from aiohttp import web

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
"""Who has not shown who it is by then is a port scanner, or as good as one."""

MAX_CONNECTIONS = 2_000
"""Open ones of a port, of which each holds some 50 kB. More are closed as they come; half-open ones end in seconds."""

_UNREAD_MS = 30_000
"""Until a connection whose peer takes nothing of its answer is given up."""


class TlsSite(web.BaseSite):
    """A port of an aiohttp runner, as `web.TCPSite` with a context; `connections` are the open ones."""

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, tls: ssl.SSLContext, limit: int = MAX_CONNECTIONS
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self.connections: set[_Connection] = set()
        self._where = (host, port)
        self._tls = tls
        self._limit = limit
        self._silent_until = 0.0

    # aiohttp's sites have slots, and these are ours.
    __slots__ = ("_limit", "_silent_until", "_tls", "_where", "connections")

    @property
    def name(self) -> str:
        """The address as a URL."""
        return f"https://{self._where[0]}:{self._where[1]}"

    async def start(self) -> None:
        """Listen."""
        await super().start()
        server = await asyncio.get_running_loop().create_server(self._accept, *self._where, backlog=1024)
        for listener in server.sockets:
            # Inherited by what is accepted; it counts for a peer that keeps its window shut, too (tcp(7)).
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
        self._server = server

    def abort(self) -> None:
        """Close what is still open, also in the middle of a handshake."""
        for connection in list(self.connections):
            connection.abort()

    def _accept(self) -> asyncio.BaseProtocol:
        if len(self.connections) >= self._limit:
            now = asyncio.get_running_loop().time()
            if now >= self._silent_until:
                self._silent_until = now + 60
                log.warning("the port has no room for more connections", extra={"port": self.name})
            return _Refusal()
        assert self._runner.server is not None
        return _Connection(self._runner.server(), self._tls, self.connections)


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class _Connection(sslproto.SSLProtocol):
    # The buffer is there from the first moment: 256 KiB for everybody who knocks, without this. A record has 16 KiB.
    max_size = 16 * 1024

    def __init__(self, app: asyncio.BaseProtocol, tls: ssl.SSLContext, among: set["_Connection"]) -> None:
        loop = asyncio.get_running_loop()
        # The stub does not know that there may be no waiter: nobody waits for the handshake of a stranger.
        super().__init__(loop, app, tls, None, server_side=True, ssl_handshake_timeout=HANDSHAKE_S)  # type: ignore[arg-type]
        self._among = among
        self._cut: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._cut = transport.abort
        self._among.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._among.discard(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        self._cut()
