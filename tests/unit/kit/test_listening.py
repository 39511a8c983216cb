"""Whether somebody can listen at an address, in one sentence where not."""

import errno
import socket

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_kit.listening import unusable_address, usable_port


def test_a_port_that_is_free_is_given_back_and_0_becomes_one() -> None:
    port = usable_port("127.0.0.1", 0)
    assert port > 0 and usable_port("127.0.0.1", port) == port


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("192.0.2.1", 8080, "cannot listen on 192.0.2.1:8080: Cannot assign requested address"),
        ("2001:db8::1", 8080, r"cannot listen on \[2001:db8::1\]:8080: "),
        ("no such host", 8080, "cannot listen on no such host:8080: Cannot assign requested address"),
    ],
)
def test_an_address_that_is_not_of_this_machine_is_named(host: str, port: int, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        usable_port(host, port)


def test_a_port_in_use_is_named_with_the_mend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=r"Address already in use\. Another process listens there"):
            usable_port("127.0.0.1", port)


def test_a_path_that_is_too_long_for_a_socket_is_told_apart() -> None:
    assert "107 bytes" in str(unusable_address("/x", OSError("AF_UNIX path too long")))
    assert "privileges" in str(unusable_address("127.0.0.1:53", OSError(errno.EACCES, "")))
