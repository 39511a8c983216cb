"""Describe each route of the admin API once: the server, the OpenAPI document and the tests are made from it."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec


class Query(msgspec.Struct, frozen=True):
    """One query parameter."""

    name: str
    description: str
    required: bool = False


class Ask(msgspec.Struct, frozen=True):
    """One request as a handler sees it: parts of the path, query parameters, and the decoded body."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: object
    admin: str
    """The name on the admin's certificate; empty on open routes."""


Answerer = Callable[[Ask], Awaitable[object]]


class Route(msgspec.Struct, frozen=True):
    """One method of one path, with the types of its body and its answer."""

    method: str
    path: str
    summary: str
    answer: Answerer
    returns: type
    takes: type | None = None
    query: tuple[Query, ...] = ()
    status: int = 200
    open: bool = False
    """Needs no client certificate: what a cluster asks before it has one."""
