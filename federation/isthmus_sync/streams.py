"""Publish on an open stream of messages, whatever carries it and whoever opened it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from isthmus_core.errors import InvalidInput, IsthmusError
from isthmus_kit.tasks import own_tasks
from isthmus_sync.outcomes import Acked, Nacked, Unserved
from isthmus_sync.pace import Pace
from isthmus_sync.publication import Publication
from isthmus_sync.publisher import PublisherStream
from isthmus_sync.subscribing import Wire, ignore, nothing
from isthmus_sync.wire import read_request

_LONG = 500
"""Resources to look at for an answer that keeps others waiting for milliseconds."""

_BREATH = 0.002
"""Seconds between two of them: hundreds are due when many peers come back at once, or one does so again and again."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """What a publishing shell needs: what to publish, and whom to tell how it went. Hooks must not block."""

    publication: Publication
    on_connected: Callable[[], None] = nothing
    on_disconnected: Callable[[str], None] = ignore
    on_acked: Callable[[Acked], None] = ignore
    on_nacked: Callable[[Nacked], None] = ignore
    on_unserved: Callable[[Unserved], None] = ignore
    max_names: int | None = None
    """Names of one type that a peer may subscribe to; the wildcard is one."""


async def publish_on(wire: Wire, publishing: Publishing) -> None:
    """Publish on an open stream until the peer ends it. Raises InvalidInput for a broken peer."""
    stream = PublisherStream(
        publishing.publication.caches, publishing.publication.order, max_names=publishing.max_names
    )
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
        try:
            async with asyncio.timeout_at(stream.ahead_at(now())):
                await wake.wait()
        except TimeoutError:
            pass
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
        responses = await _next(stream, publication, now)
        for payload in responses:
            await wire.write(payload)
        if responses:
            pace.sent(now())


async def _next(stream: PublisherStream, publication: Publication, now: Callable[[], float]) -> list[bytes]:
    """What to send now. Long answers are made one after the other, and what others wait for goes between them."""
    if stream.backlog <= _LONG:
        return stream.next(now())
    async with publication.large:
        responses = stream.next(now())
        await asyncio.sleep(_BREATH)
    return responses


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
