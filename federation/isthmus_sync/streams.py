"""Move messages between a machine and an open gRPC stream; the same code whoever opened it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from isthmus_core.errors import InvalidInput, IsthmusError
from isthmus_kit.tasks import own_tasks
from isthmus_sync.outcomes import Acked, Nacked, Unserved
from isthmus_sync.pace import Pace
from isthmus_sync.publication import Publication
from isthmus_sync.publisher import PublisherStream
from isthmus_sync.subscriber import SubscriberStream, Update
from isthmus_sync.wire import read_request, read_response

ACCEPTED = ("isthmus-accepted", "1")
"""Initial metadata of a stream that the server accepted; a refused stream has none of its own."""


class Wire(Protocol):
    """An open stream of serialised messages."""

    async def read(self) -> bytes | None:
        """The peer's next message; None when it will send no more."""

    async def write(self, payload: bytes) -> None:
        """Send a message; returns when there is room for more."""


def _ignore(_: object) -> None:
    return None


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Publishing:
    """What a publishing shell needs: what to publish, and whom to tell how it went. Hooks must not block."""

    publication: Publication
    on_connected: Callable[[], None] = _nothing
    on_disconnected: Callable[[str], None] = _ignore
    on_acked: Callable[[Acked], None] = _ignore
    on_nacked: Callable[[Nacked], None] = _ignore
    on_unserved: Callable[[Unserved], None] = _ignore


Apply = Callable[[Update], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Subscribing:
    """What a subscribing shell needs: what is known so far, and where updates go.

    `apply` returns the resources it refuses (name -> reason); the update is acknowledged after it returned.
    """

    stream: SubscriberStream
    apply: Apply
    on_connected: Callable[[], None] = _nothing
    on_disconnected: Callable[[str], None] = _ignore


async def publish_on(wire: Wire, publishing: Publishing) -> None:
    """Publish on an open stream until the peer ends it. Raises InvalidInput for a broken peer."""
    stream = PublisherStream(publishing.publication.caches, publishing.publication.order)
    with publishing.publication.follow() as wake:
        urgent = asyncio.Event()
        try:
            async with own_tasks() as owner:
                owner.start("responses", _write_responses(wire, stream, publishing.publication, wake, urgent))
                while (payload := await wire.read()) is not None:
                    _receive(stream, payload, publishing, urgent)
                    wake.set()
        except BaseExceptionGroup as group:
            raise first_cause(group) from group


def _receive(stream: PublisherStream, payload: bytes, publishing: Publishing, urgent: asyncio.Event) -> None:
    match stream.receive(read_request(payload)):
        case Acked() as acked:
            publishing.on_acked(acked)
        case Nacked() as nacked:
            publishing.on_nacked(nacked)
        case Unserved() as unserved:
            publishing.on_unserved(unserved)
        case None:
            urgent.set()  # a question: answered at once, whatever the pace of changes


async def _write_responses(
    wire: Wire, stream: PublisherStream, publication: Publication, wake: asyncio.Event, urgent: asyncio.Event
) -> None:
    pace, seen, now = Pace(), publication.changes, asyncio.get_running_loop().time
    while True:
        await wake.wait()
        delay = pace.delay(now())
        if delay > 0:
            try:
                async with asyncio.timeout(delay):
                    await urgent.wait()
            except TimeoutError:
                pass
        wake.clear()
        urgent.clear()
        pace.gathered(publication.changes - seen)
        seen = publication.changes
        responses = stream.next()
        for payload in responses:
            await wire.write(payload)
        if responses:
            pace.sent(now())


async def subscribe_on(wire: Wire, subscribing: Subscribing) -> None:
    """Subscribe on an open stream until the peer ends it.

    Raises InvalidInput for a broken peer, and what `apply` raises.
    """
    stream = subscribing.stream
    for request in stream.connect():
        await wire.write(request.SerializeToString())
    while (payload := await wire.read()) is not None:
        update = stream.receive(read_response(payload))
        refused = await subscribing.apply(update)
        await wire.write(stream.answer(update, refused).SerializeToString())


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to act on out of a group: one with a sentence if there is any, else the first."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    bugs = [leaf for leaf in leaves if not isinstance(leaf, IsthmusError | OSError)]
    told = [leaf for leaf in leaves if isinstance(leaf, InvalidInput)]
    return (told or bugs or leaves)[0]
