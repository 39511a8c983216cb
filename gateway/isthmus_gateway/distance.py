"""Measure how far away other clusters' gateways are, as the kernel sees it in a TCP handshake."""

import asyncio
import socket
import struct
from collections.abc import Iterable, Mapping

from isthmus_core.names import ClusterId

LIMIT_S = 2.0
_RTT_OFFSET = 68  # tcpi_rtt of struct tcp_info, in microseconds (linux/tcp.h)


async def distances(gateways: Mapping[ClusterId, Iterable[tuple[str, int]]]) -> Mapping[ClusterId, float]:
    """The round trip in milliseconds to the nearest gateway of each cluster; none where nobody accepts."""
    wanted = [(cluster, where) for cluster, all_of_it in gateways.items() for where in all_of_it]
    measured = await asyncio.gather(*(round_trip_ms(*where) for _, where in wanted))
    found: dict[ClusterId, float] = {}
    for (cluster, _), took in zip(wanted, measured, strict=True):
        if took is not None:
            found[cluster] = min(took, found.get(cluster, took))
    return found


async def round_trip_ms(address: str, port: int) -> float | None:
    """The time that a TCP handshake took, without what this process waited for a processor; None when it failed."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as wire:
        wire.setblocking(False)
        try:
            async with asyncio.timeout(LIMIT_S):
                await asyncio.get_running_loop().sock_connect(wire, (address, port))
        except (OSError, TimeoutError):
            return None
        info = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_OFFSET + 4)
    microseconds: int = struct.unpack_from("I", info, _RTT_OFFSET)[0]
    return microseconds / 1000
