"""Subscribe on an open stream of messages, whatever carries it; what every end of a stream has in common."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from isthmus_sync.subscriber import SubscriberStream, Update
from isthmus_sync.wire import read_response

ACCEPTED = ("isthmus-accepted", "1")
"""Initial metadata of a stream that the server accepted; a refused stream has none of its own."""


class Wire(Protocol):
    """An open stream of serialised messages."""

    async def read(self) -> bytes | None:
        """The peer's next message; None when it will send no more."""

    async def write(self, payload: bytes) -> None:
        """Send a message; returns when there is room for more."""


def ignore(_: object) -> None:
    """A hook of somebody who does not want to know."""


def nothing() -> None:
    """A hook without arguments of somebody who does not want to know."""


Apply = Callable[[Update], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Subscribing:
    """What a subscribing shell needs: what is known so far, and where updates go.

    `apply` returns the resources it refuses (name -> reason); the update is acknowledged after it returned.
    """

    stream: SubscriberStream
    apply: Apply
    on_connected: Callable[[], None] = nothing
    on_disconnected: Callable[[str], None] = ignore
    foretell: Callable[[Update], None] | None = None
    """In a server: hears of updates that wait while an earlier one is applied; `apply` gets them in their turn."""


async def subscribe_on(wire: Wire, subscribing: Subscribing) -> None:
    """Subscribe on an open stream until the peer ends it.

    Raises InvalidInput for a broken peer, and what `apply` raises.
    """
    stream = subscribing.stream
    for request in stream.connect():
        await wire.write(request.SerializeToString())
    while (payload := await wire.read()) is not None:
        await take(wire, subscribing, stream.receive(read_response(payload)))


async def take(wire: Wire, subscribing: Subscribing, update: Update) -> None:
    """Apply one update, and answer it."""
    refused = await subscribing.apply(update)
    await asyncio.sleep(0)  # what the update caused goes before the word that it was taken
    await wire.write(subscribing.stream.answer(update, refused).SerializeToString())
