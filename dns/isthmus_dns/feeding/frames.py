"""Carry the messages of the sync protocol over a socket between a supervisor and its worker."""

import asyncio
import socket
import struct
from collections.abc import Callable

import msgspec

from isthmus_core.errors import InvalidInput

_HEAD = struct.Struct("!IB")
"""The length of what follows, and what it is."""
_MESSAGE, _STANDING = 0, 1
_LONGEST = 64 << 20


class Standing(msgspec.Struct, frozen=True):
    """Whether the agent is there, and for how many seconds it has been away."""

    connected: bool
    away: float = 0.0


def _ignore(_: Standing) -> None:
    return None


class FramedWire:
    """A `Wire` of the sync protocol over a socket; between its messages one end may tell how the agent is."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_standing: Callable[[Standing], None] = _ignore,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_standing = on_standing

    @classmethod
    async def over(cls, sock: socket.socket, on_standing: Callable[[Standing], None] = _ignore) -> "FramedWire":
        """A wire over a connected socket, which is the wire's from now on."""
        reader, writer = await asyncio.open_connection(sock=sock)
        return cls(reader, writer, on_standing)

    async def read(self) -> bytes | None:
        """The peer's next message; None when it will send no more."""
        while True:
            try:
                length, kind = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
                if length > _LONGEST:
                    raise InvalidInput(f"a frame of {length} bytes is longer than {_LONGEST}")
                body = await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if kind == _MESSAGE:
                return body
            self._on_standing(msgspec.json.decode(body, type=Standing))

    async def write(self, payload: bytes) -> None:
        """Send a message; returns when there is room for more."""
        self._send(_MESSAGE, payload)
        await self._writer.drain()

    def tell(self, standing: Standing) -> None:
        """Tell how the agent is; small and rare, so that it need not wait for room."""
        self._send(_STANDING, msgspec.json.encode(standing))

    def close(self) -> None:
        """Send no more, and take no more."""
        self._writer.close()

    def _send(self, kind: int, body: bytes) -> None:
        self._writer.write(_HEAD.pack(len(body), kind) + body)
