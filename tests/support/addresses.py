"""Addresses and ports that belong to one test process alone, so that runs beside each other do not meet."""

import itertools
import os
import random
import socket

# Below the ports that the system takes for outgoing connections (ip_local_port_range): between the moment in which a
# port is found free and that in which a server listens there, no connection can take it.
_PORTS = range(16_000, 32_000)
_given: set[int] = set()


def free_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that is free now and was not given before. Prefer port 0 where the program can tell what it got."""
    for _ in range(1000):
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError(f"no port is free at {host}")


class LoopbackNet:
    """A network 127.x.y.0/24 that no other test process on this machine has while this object is open.

    The claim is an abstract unix socket: it needs no file, works across users, and ends with the process.
    """

    def __init__(self) -> None:
        # Two octets from a private part of 127/8: 127.64.0.0 to 127.127.255.0; where to start differs by process.
        start = os.getpid() * 7919
        for step in itertools.count():
            number = (start + step) % (64 * 256)
            self.prefix = f"127.{64 + number // 256}.{number % 256}"
            self._claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._claim.bind(f"\0isthmus-test-net-{self.prefix}")
            except OSError:
                self._claim.close()
                if step > 1000:
                    raise
            else:
                break
        self._hosts = itertools.cycle(range(2, 255))
        self._ranges = itertools.cycle(range(0, 256, 32))

    def address(self, host: int) -> str:
        """The address with this last octet, 1 to 254."""
        return f"{self.prefix}.{host}"

    def next(self) -> str:
        """The next address not given out yet (253 of them, then from the start again)."""
        return self.address(next(self._hosts))

    def next_range(self) -> str:
        """A range of 32 addresses for virtual ones, not given out yet (eight of them, then from the start again).

        It lies in a network of its own, 127.192.0.0 to 127.255.255.0, so that it has none of `next`.
        """
        _, second, third = self.prefix.split(".")
        return f"127.{int(second) + 128}.{third}.{next(self._ranges)}/27"

    def close(self) -> None:
        self._claim.close()
