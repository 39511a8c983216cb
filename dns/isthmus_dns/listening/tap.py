"""Look at queries as they pass: the sampled query log, and dnstap over a unix socket. Neither ever delays an answer."""

import asyncio
import logging
import time
from collections import deque
from pathlib import Path

from isthmus_dns.message import wire
from isthmus_dns.message.query import Query, read_query
from isthmus_dns.watching import dnstap

log = logging.getLogger(__name__)

_PENDING = 10_000
_FLUSH = 0.05
_HANDSHAKE = 3.0
_RETRY = 2.0


class QueryLog:
    """Writes every n-th query to the log."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._seen = 0

    def see(self, packet: bytes, response: bytes | None, client: str, port: int, tcp: bool) -> None:
        """Count a query, and log it when it is its turn."""
        self._seen += 1
        if self._seen % self._every:
            return
        query = read_query(packet)
        asked = {}
        if isinstance(query, Query):
            asked = {"question": wire.name_text(query.name), "type": wire.TYPES.get(query.qtype, f"TYPE{query.qtype}")}
        rcode = "" if response is None else wire.RCODES.get(response[3] & 15, str(response[3] & 15))
        size = 0 if response is None else len(response)
        log.info("query", extra=asked | {"client": client, "tcp": tcp, "rcode": rcode, "size": size, "of": self._every})


class Dnstap:
    """Sends what passes to a dnstap receiver; when it is away or slow, frames are dropped and counted."""

    def __init__(self, path: Path, identity: str) -> None:
        self.dropped = 0
        self._path = path
        self._identity = identity.encode()
        self._pending: deque[bytes] = deque()
        self._connected = False

    def see(self, packet: bytes, response: bytes | None, client: str, port: int, tcp: bool) -> None:
        """Note a query and its answer."""
        if not self._connected:
            return
        if len(self._pending) >= _PENDING:
            self.dropped += 1
            return
        now = time.time_ns()
        identity = self._identity
        self._pending.append(dnstap.data_frame(dnstap.AUTH_QUERY, identity, packet, client, port, tcp, now))
        if response is not None:
            self._pending.append(dnstap.data_frame(dnstap.AUTH_RESPONSE, identity, response, client, port, tcp, now))

    async def send(self) -> None:
        """Stay connected to the receiver until cancelled."""
        told = ""
        while True:
            try:
                await self._stream()
                reason = "the receiver closed the stream"
            except (OSError, EOFError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            finally:
                self._connected = False
                self._pending.clear()
            if reason != told:
                log.warning("dnstap receiver is away", extra={"socket": str(self._path), "reason": reason})
                told = reason
            await asyncio.sleep(_RETRY)

    async def _stream(self) -> None:
        async with asyncio.timeout(_HANDSHAKE):
            reader, writer = await asyncio.open_unix_connection(str(self._path))
        try:
            async with asyncio.timeout(_HANDSHAKE):
                writer.write(dnstap.control_frame(dnstap.READY))
                await reader.readexactly(4)
                length = int.from_bytes(await reader.readexactly(4), "big")
                if length > 1024 or not dnstap.accepts(await reader.readexactly(length)):
                    raise OSError("the receiver does not take dnstap")
                writer.write(dnstap.control_frame(dnstap.START))
                await writer.drain()
            self._connected = True
            while not reader.at_eof():
                await asyncio.sleep(_FLUSH)
                frames = b"".join(self._pending)
                self._pending.clear()
                writer.write(frames)
                async with asyncio.timeout(_HANDSHAKE):
                    await writer.drain()
        finally:
            # STOP is a courtesy; the receiver reads to the end of the stream in any case.
            writer.write(b"".join(self._pending) + dnstap.control_frame(dnstap.STOP))
            writer.close()
