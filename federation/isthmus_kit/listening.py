"""Say whether somebody can listen at an address, and why not."""

import errno
import os
import socket

from isthmus_core.errors import InvalidInput

_MENDS = {
    errno.EADDRINUSE: "Another process listens there: end it, or choose another port.",
    errno.EACCES: "Ports below 1024 need privileges: choose a higher port, or allow this one.",
    errno.EADDRNOTAVAIL: "The address is not of this machine: use one that is, such as 127.0.0.1.",
    errno.ENAMETOOLONG: "The path of a unix socket is at most 107 bytes: use a shorter data directory.",
}


def usable_port(host: str, port: int) -> int:
    """`port`, or a free one for 0, when a TCP server can listen there now; raises InvalidInput when nobody can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the servers themselves do: connections that are just ending must not keep the port from us.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            unknown = OSError(errno.EADDRNOTAVAIL, "unknown host")
            raise unusable_address(place, unknown) from error
        except OSError as error:
            raise unusable_address(place, error) from error
        return int(probe.getsockname()[1])


def unusable_address(address: str, error: OSError) -> InvalidInput:
    """Why nothing can listen on `address`, and what to do about it."""
    too_long = "too long" in str(error)
    mend = _MENDS.get(errno.ENAMETOOLONG if too_long else error.errno or 0, "Choose another address.")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return InvalidInput(f"cannot listen on {address}: {reason}", mend)
