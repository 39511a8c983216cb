"""What one peer may ask for, and how much: what it names stands in the publisher's memory."""

from isthmus_core.errors import InvalidInput
from isthmus_sync.wire import Request

_MOST_VERSIONS = 500_000
"""More than fit the largest message that a controller takes, with names and versions of our own."""


def check_request(request: Request, held: int, most: int | None) -> None:
    """Raise InvalidInput when a peer that has `held` names of a type asks for more than `most` (None: no limit)."""
    if "" in request.resource_names_subscribe or "" in request.resource_names_unsubscribe:
        raise InvalidInput("a peer subscribed to an empty resource name")
    if most is None:
        return
    if held + len(request.resource_names_subscribe) > most:
        raise InvalidInput(f"a peer subscribed to more than {most} names of one type", "Subscribe to all of them: '*'.")
    if (versions := len(request.initial_resource_versions)) > _MOST_VERSIONS:
        raise InvalidInput(f"a peer came back with the versions of {versions} resources", "Begin with none.")
