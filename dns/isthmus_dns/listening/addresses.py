"""Read listen addresses and open sockets on them, with one clear sentence where that cannot be."""

import ipaddress
import resource
import socket
from collections.abc import Iterable

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_kit.listening import unusable_address

_RECEIVE_BUFFER = 4 * 1024 * 1024
# What the kernel may hold of one TCP connection's queries, and of answers that its client does not fetch. Left to
# itself it is megabytes for each of thousands of connections; hundreds of queries, or the longest answer, are enough.
_STREAM_QUERIES, _STREAM_ANSWERS = 32 * 1024, 64 * 1024


class Address(msgspec.Struct, frozen=True):
    """An IP address and a port to answer on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """HOST:PORT or [HOST]:PORT with an IP address as the host; port 0 lets the system choose."""
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InvalidInput(
            f"{text!r} is not an address to listen on", "Write IP:PORT, for example 127.0.0.1:5353 or [::1]:5353."
        ) from None
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"port {port!r} in {text!r} is not a number from 0 to 65535")
    return Address(host, int(port))


def claim_addresses(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """Make sure that nobody else answers on these addresses, and give free ports to those that have none.

    Workers share a port with SO_REUSEPORT, which would also let two servers share it silently: so it is tried without.
    """
    claimed = []
    for address in addresses:
        for attempt in range(20):
            udp = _bound(address, socket.SOCK_DGRAM, share=False)
            chosen = Address(address.host, udp.getsockname()[1])
            try:
                tcp = _bound(chosen, socket.SOCK_STREAM, share=False)
            except InvalidInput:
                # The system chose a port for UDP; the same one may be in use for TCP.
                if address.port or attempt == 19:
                    raise
                continue
            finally:
                udp.close()
            tcp.close()
            claimed.append(chosen)
            break
    return tuple(claimed)


def listening_socket(address: Address, kind: socket.SocketKind) -> socket.socket:
    """A socket that shares its address with the other workers."""
    sock = _bound(address, kind, share=True)
    if kind == socket.SOCK_DGRAM:
        # A burst waits in the kernel instead of being lost, as far as net.core.rmem_max allows.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return sock


def raise_file_limit() -> None:
    """Allow as many open connections as the system lets this user have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bound(address: Address, kind: socket.SocketKind, share: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit both; they have to be set before listening, which announces the window's scale.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STREAM_QUERIES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STREAM_ANSWERS)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address.host, address.port))
        if kind == socket.SOCK_STREAM:
            sock.listen(1024)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise unusable_address(str(address), error) from error
    return sock
