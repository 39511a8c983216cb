"""Refusals that have an HTTP status of their own."""

from isthmus_core.errors import InvalidInput, Refused


class NotFound(InvalidInput):
    """There is nothing of that name."""

    status = 404


class Taken(InvalidInput):
    """Something of that name is there already."""

    status = 409


class Unidentified(Refused):
    """The caller showed no client certificate."""

    status = 401


class TooLarge(InvalidInput):
    """The request has more bytes than any that makes sense."""

    status = 413


class TooSlow(InvalidInput):
    """The request did not come to its end in time."""

    status = 408
