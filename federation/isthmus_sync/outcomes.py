"""What a publisher learns from its peer's answers, as values."""

from collections.abc import Mapping
from typing import TypeAlias

import msgspec


class Rejection(msgspec.Struct, frozen=True):
    """Why a peer refused a resource."""

    version: str
    reason: str


class Acked(msgspec.Struct, frozen=True):
    """The peer accepted a whole response."""

    type_url: str
    accepted: Mapping[str, str]  # name -> version
    removed: tuple[str, ...]


class Nacked(msgspec.Struct, frozen=True):
    """The peer refused a response, or some resources of it."""

    type_url: str
    rejected: Mapping[str, Rejection]
    accepted: Mapping[str, str]  # name -> version
    removed: tuple[str, ...]
    suspects: tuple[str, ...]  # refused in company; sent again in halves to find the guilty one
    message: str


class Unserved(msgspec.Struct, frozen=True):
    """The peer asked for a type that is not published here; it is not answered (it may be newer than we are)."""

    type_url: str


Outcome: TypeAlias = Acked | Nacked | Unserved
