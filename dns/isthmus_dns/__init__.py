"""Authoritative DNS for clusterset.local and for zones of one's own: answers compiled before they are asked for."""

from typing import TYPE_CHECKING

from isthmus_dns.apex import NameServer, ZoneSpec

if TYPE_CHECKING:
    from isthmus_dns.server import run

__all__ = ["NameServer", "ZoneSpec", "run"]


def __getattr__(name: str) -> object:
    # The server imports gRPC, which takes longer than most commands may.
    if name == "run":
        from isthmus_dns.server import run

        return run
    raise AttributeError(name)
