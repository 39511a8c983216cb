"""Authoritative DNS for clusterset.local and for zones of one's own: answers compiled before they are asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus_dns.serving.server import run
    from isthmus_dns.zone.apex import NameServer, ZoneSpec

__all__ = ["NameServer", "ZoneSpec", "run"]


_HOMES = {"NameServer": "zone.apex", "ZoneSpec": "zone.apex", "run": "serving.server"}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: the server takes longer than most commands may (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
