"""Ask the system for what a server needs of it."""

import resource

_PLENTY = 65_536


def raise_file_limit() -> None:
    """Allow as many open connections as the system lets this user have: often 1,024 until somebody asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _PLENTY if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


__all__ = ["raise_file_limit"]
