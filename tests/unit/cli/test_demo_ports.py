"""The demo finds ports beside programs that listen on every address of the machine."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from isthmus_cli.demo.ports import TRIED, Ports, choose_ports
from isthmus_core.errors import Unavailable
from support.addresses import LoopbackNet


@pytest.fixture
def net() -> Iterator[LoopbackNet]:
    with contextlib.closing(LoopbackNet()) as mine:
        yield mine


def held(address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Bound as a server binds: nobody else listens there meanwhile."""
    holder = socket.socket(socket.AF_INET, kind)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((address, port))
    except OSError:
        holder.close()
        raise
    if kind == socket.SOCK_STREAM:
        holder.listen()
    return holder


def test_a_port_that_is_taken_at_one_address_is_left_at_all(net: LoopbackNet) -> None:
    hosts = [net.address(1), net.address(10)]
    # Not all usual ones where the tests run: somebody may really listen on 8080.
    before = choose_ports(hosts)
    with held(net.address(10), before.http):
        after = choose_ports(hosts)
    assert after.http > before.http
    assert after == before._replace(http=after.http)


def test_multicast_dns_keeps_its_port(net: LoopbackNet) -> None:
    hosts = [net.address(1), net.address(53)]
    before = choose_ports(hosts)
    with held(net.address(53), before.dns, socket.SOCK_DGRAM):
        after = choose_ports(hosts)
    assert after.dns > before.dns
    assert after == before._replace(dns=after.dns)


def test_two_parts_never_get_the_same_port(net: LoopbackNet) -> None:
    with contextlib.ExitStack() as held_too:
        # All that lie between the usual two, and both.
        for port in range(Ports().grpc, Ports().admin + 1):
            with contextlib.suppress(OSError):
                held_too.enter_context(held(net.address(1), port))
        chosen = choose_ports([net.address(1)])
    assert chosen.grpc > Ports().admin
    assert len(set(chosen)) == len(chosen)


def test_a_machine_without_free_ports_says_which_are_wanted(net: LoopbackNet) -> None:
    with contextlib.ExitStack() as held_too:
        for port in range(9000, 9000 + TRIED):
            with contextlib.suppress(OSError):
                held_too.enter_context(held(net.address(1), port))
        with pytest.raises(Unavailable, match=f"no port from 9000 to 9099 is free for the demo at {net.address(1)}"):
            choose_ports([net.address(1)])
