"""Ask a server of the bench a few questions: is it ready, and does it say the same as the others?"""

import asyncio
import time
from collections.abc import Callable, Sequence

import dns.flags
import dns.message
import dns.query
import dns.rcode

from support.dns_peers.content import name_of
from support.dns_peers.running import Running
from unit.nameserver.builders import question

_FIRST = question(name_of(0)).to_wire()


class _Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answered = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[3] & 15 == 0 and data[7]:
            self.answered.set()


async def until_answer(server: Running, within: float, lives: Callable[[], bool] = lambda: True) -> float:
    """Ask until there is an answer; when it came, by the monotonic clock."""
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(_Client, remote_addr=(server.host, server.port))
    try:
        async with asyncio.timeout(within):
            while not client.answered.is_set():
                if not lives():
                    raise TimeoutError
                transport.sendto(_FIRST)
                try:
                    async with asyncio.timeout(0.005):
                        await client.answered.wait()
                except TimeoutError:
                    continue
            return time.perf_counter()
    finally:
        transport.close()


def different(one: Running, other: Running, queries: Sequence[bytes]) -> list[str]:
    """Questions that the two answer with another code or with other records: then they are no comparison."""
    found = []
    for query in queries:
        ours, theirs = _asked(one, query), _asked(other, query)
        if ours != theirs:
            found.append(f"{dns.message.from_wire(query).question[0]}: {ours} and {theirs}")
    return found


def _asked(server: Running, query: bytes) -> tuple[str, ...]:
    answer = dns.query.udp(dns.message.from_wire(query), server.host, 2.0, server.port)
    if answer.flags & dns.flags.TC:
        return ("truncated",)  # how much still fits is up to each server
    records = sorted(
        f"{one.name} {dns.rdatatype.to_text(one.rdtype)} {rdata}" for one in answer.answer for rdata in one
    )
    return (dns.rcode.to_text(answer.rcode()), *records)
