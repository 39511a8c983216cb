"""The ports of the demo: the usual ones, or the next where another program of this machine listens everywhere."""

import socket
from collections.abc import Sequence
from typing import NamedTuple

from isthmus_core.errors import Unavailable

TRIED = 100


class Ports(NamedTuple):
    """Where the parts of the demo listen, each on addresses of its own."""

    grpc: int = 15010
    admin: int = 15014
    gateway: int = 15443
    web: int = 15020
    dns: int = 5353
    http: int = 8080
    tcp: int = 9000


def choose_ports(addresses: Sequence[str]) -> Ports:
    """Ports that are free at all `addresses`; raises Unavailable when there are none.

    The network is the demo's own, but who listens on 0.0.0.0 listens there, too: a web server on 8080, mDNS on 5353,
    a gateway with its usual port.
    """
    chosen: list[int] = []
    for usual in Ports():
        chosen.append(_first_free(addresses, usual, chosen))
    return Ports(*chosen)


def _first_free(addresses: Sequence[str], usual: int, taken: Sequence[int]) -> int:
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    for port in range(usual, usual + TRIED):
        if port not in taken and all(_free(address, port, kind) for address in addresses for kind in kinds):
            return port
    last = usual + TRIED - 1
    raise Unavailable(
        f"no port from {usual} to {last} is free for the demo at {addresses[0]}", "End what listens there."
    )


def _free(address: str, port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            # Connections of a demo before this one, which wait for their end, are in nobody's way (tcp(7)).
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
