"""A backend in a process of its own, so that killing or freezing it breaks its open connections too.

`python echo_backend.py NAME ADDRESS PORT`: answers every HTTP/1.1 request with NAME, every other line with NAME and the
line. `GET /status/503` answers with that status once asked to by the file named in ISTHMUS_TEST_SICK (while it exists).
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import cast


class Echo(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, or lines of text: the first line decides."""

    def __init__(self, name: bytes, sick: Path | None) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\nserver: echo\r\ncontent-length: %d\r\n\r\n%s" % (len(name), name)
        self.name = name
        self.sick = sick
        self.pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, content: bytes) -> None:
        self.pending += content
        if b"HTTP/1." not in self.pending.partition(b"\r\n")[0]:
            *lines, self.pending = self.pending.split(b"\n")
            for line in lines:
                self.transport.write(self.name + b" " + line + b"\n")
            return
        while b"\r\n\r\n" in self.pending:
            head, _, rest = self.pending.partition(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n")[1:]:
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            if len(rest) < length:
                return
            self.pending = rest[length:]
            if self.sick is not None and self.sick.exists() and not head.startswith(b"GET /healthz "):
                self.transport.write(b"HTTP/1.1 503 Sick\r\ncontent-length: 0\r\n\r\n")
            else:
                self.transport.write(self.answer)


async def main(name: str, address: str, port: int) -> None:
    sick = Path(os.environ["ISTHMUS_TEST_SICK"]) if "ISTHMUS_TEST_SICK" in os.environ else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(name.encode(), sick), address, port, backlog=1024)
    print("serving", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
