"""Ask a DNS server for an address, steadily, and count what is wrong with the answers."""

import asyncio
import socket
import struct
import time

_A, _IN = 1, 1


def question(name: str, number: int) -> bytes:
    """A query for the A record of `name` with the id `number` (RFC 1035, section 4.1)."""
    labels = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", _A, _IN)


def address_in(answer: bytes, query: bytes) -> str | None:
    """The address in an answer with exactly one A record; None when it says something else."""
    if len(answer) < len(query) + 16 or answer[:2] != query[:2]:
        return None
    flags, _, answers = struct.unpack(">HHH", answer[2:8])
    # The one record begins with a pointer to the question: name 2, type 2, class 2, TTL 4, length 2, address 4.
    kind, _, _, length = struct.unpack(">HHIH", answer[len(query) + 2 : len(query) + 12])
    if not flags & 0x8000 or flags & 0x000F or answers != 1 or (kind, length) != (_A, 4):
        return None
    return socket.inet_ntoa(answer[len(query) + 12 : len(query) + 16])


async def ask(server: tuple[str, int], name: str, timeout: float = 1.0) -> str | None:
    """The address of `name` according to `server`; None when there is no usable answer in time."""
    loop = asyncio.get_running_loop()
    query = question(name, time.monotonic_ns() & 0xFFFF)
    try:
        async with asyncio.timeout(timeout):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.setblocking(False)
                udp.connect(server)
                await loop.sock_sendall(udp, query)
                return address_in(await loop.sock_recv(udp, 4096), query)
    except (OSError, TimeoutError):
        return None


class Questions:
    """Asks one server the same question at a steady rate; every answer must be the same address."""

    def __init__(self, server: tuple[str, int], name: str, expected: str, rate: float) -> None:
        """`rate` in queries a second."""
        self.asked = 0
        self.wrong: list[str] = []
        self._server, self._name, self._expected, self._rate = server, name, expected, rate

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            answer = await ask(self._server, self._name)
            self.asked += 1
            if answer != self._expected:
                self.wrong.append(f"{self._server[0]} said {answer}, not {self._expected}")
            await asyncio.sleep(1 / self._rate)
