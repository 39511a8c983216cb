"""A TCP relay that can be slow, swallow everything, refuse, or cut: a bad network between two real programs.

`python relay.py ADDRESS PORT TARGET PORT DELAY` is one on a host of its own.
"""

import asyncio
import contextlib
import socket
import struct
import sys
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65536


class Relay:
    """Listens on a free port of `host` and carries bytes to and from `target`. Faults may change at any time.

    `delay` is the one-way time in seconds; it does not limit throughput, as on a long wire.
    """

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1", port: int = 0, delay: float = 0.0) -> None:
        self.target = target
        self.host = host
        self.port = port
        self.delay = delay
        self.accepted = 0
        self.carried = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._sockets: set[socket.socket] = set()
        self._open: set[asyncio.Task[None]] = set()
        self._group = asyncio.TaskGroup()
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        self._flowing.set()
        self.cut()
        await self._group.__aexit__(kind, error, trace)

    async def listen(self) -> None:
        """Take connections (again, on the same port, after `refuse`)."""
        if self._listening is None:
            listener = socket.create_server((self.host, self.port), backlog=1024)
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            self._listening = self._group.create_task(self._accept(listener), name=f"relay {self.port}")

    async def refuse(self) -> None:
        """New connections are refused; open ones go on."""
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
            self._listening = None

    def black_hole(self) -> None:
        """Bytes vanish: nothing is carried, nobody is told, new connections open and stay silent."""
        self._flowing.clear()

    def restore(self) -> None:
        """Carry on; what was held back since `black_hole` is delivered, as TCP would by sending it again."""
        self._flowing.set()

    def cut(self) -> None:
        """Reset every open connection on both sides."""
        for open_socket in self._sockets:
            # Linger for no time: close() sends RST instead of FIN.
            open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for task in self._open:
            task.cancel()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                client, _ = await loop.sock_accept(listener)
                self.accepted += 1
                name = f"relay {self.port} connection {self.accepted}"
                task = self._group.create_task(self._connection(client), name=name)
                self._open.add(task)
                task.add_done_callback(self._open.discard)

    async def _connection(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        server = socket.socket()
        try:
            with client, server:
                self._sockets |= {client, server}
                for end in (client, server):
                    end.setblocking(False)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._flowing.wait()
                if self.delay:
                    await asyncio.sleep(2 * self.delay)  # the handshake's own round trip
                await loop.sock_connect(server, self.target)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._carry(client, server), name="relay up")
                    both.create_task(self._carry(server, client), name="relay down")
        except* OSError:
            pass  # one side went away: the other is closed, as a wire would show it in the end
        finally:
            self._sockets -= {client, server}

    async def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        wire: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, chunk = await wire.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                await self._flowing.wait()
                if not chunk:
                    with contextlib.suppress(OSError):
                        sink.shutdown(socket.SHUT_WR)
                    return
                await loop.sock_sendall(sink, chunk)
                self.carried += len(chunk)

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver(), name="relay wire")
            while True:
                chunk = await loop.sock_recv(source, CHUNK_BYTES)
                wire.put_nowait((loop.time() + self.delay, chunk))
                if not chunk:
                    return


async def main(address: str, port: str, target: str, target_port: str, delay: str) -> None:
    async with Relay((target, int(target_port)), address, int(port), float(delay)):
        print("carrying", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
