"""Publish on an open stream of messages, whatever carries it and whoever opened it."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from isthmus_core.errors import InvalidInput, IsthmusError, Unavailable
from isthmus_kit.tasks import own_tasks
from isthmus_sync.outcomes import Acked, Nacked, Unserved
from isthmus_sync.pace import Pace
from isthmus_sync.publication import Publication
from isthmus_sync.publisher import PublisherStream
from isthmus_sync.subscribing import Wire, ignore, nothing
from isthmus_sync.wire import read_request

_LONG = 500
"""Resources to look at for an answer that keeps others waiting for milliseconds."""

_SHORT = 4096
"""Bytes of an answer that took no time to make, however much there was to choose from."""

_BREATH = 0.002
"""Seconds between two of them: hundreds are due when many peers come back at once, or one does so again and again."""


class Guard(msgspec.Struct, frozen=True):
    """What one stream may cost its publisher, whatever its peer does."""

    first: int = 32 * 1024
    """Bytes of resources in the first response; it doubles with each that is answered soon."""
    most: int = 512 * 1024
    """Bytes of the largest one: what stands in memory for a peer that took some and then no more."""
    patience: float = 60.0
    """Seconds until a peer is given up that lives, as its pings say, and does not answer."""


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
    guard: Guard | None = None
    """For peers that may be hostile."""


async def publish_on(wire: Wire, publishing: Publishing) -> None:
    """Publish on an open stream until the peer ends it. Raises InvalidInput for a broken peer."""
    stream = _stream(publishing)
    now = asyncio.get_running_loop().time
    with publishing.publication.follow() as wake:
        urgent = asyncio.Event()
        try:
            async with own_tasks() as owner:
                owner.start("responses", _write_responses(wire, stream, publishing, wake, urgent))
                while (payload := await wire.read()) is not None:
                    _receive(stream, payload, publishing, urgent, now())
                    wake.set()
        except BaseExceptionGroup as group:
            raise first_cause(group) from group


def _stream(publishing: Publishing) -> PublisherStream:
    caches, order, most = publishing.publication.caches, publishing.publication.order, publishing.max_names
    if (guard := publishing.guard) is not None:
        return PublisherStream(caches, order, limit=guard.most, first=guard.first, max_names=most)
    return PublisherStream(caches, order, max_names=most)


def _receive(
    stream: PublisherStream, payload: bytes, publishing: Publishing, urgent: asyncio.Event, now: float
) -> None:
    match stream.receive(read_request(payload), now):
        case Acked() as acked:
            publishing.on_acked(acked)
        case Nacked() as nacked:
            publishing.on_nacked(nacked)
        case Unserved() as unserved:
            publishing.on_unserved(unserved)
        case None:
            urgent.set()  # a question: answered at once, whatever the pace of changes


async def _write_responses(
    wire: Wire, stream: PublisherStream, publishing: Publishing, wake: asyncio.Event, urgent: asyncio.Event
) -> None:
    publication = publishing.publication
    pace, seen, now = Pace(), publication.changes, asyncio.get_running_loop().time
    patience = publishing.guard.patience if publishing.guard is not None else math.inf
    while True:
        at = min(stream.ahead_at(now()) or math.inf, stream.unanswered_since + patience)
        try:
            async with asyncio.timeout_at(at if at < math.inf else None):
                await wake.wait()
        except TimeoutError:
            pass
        if now() >= stream.unanswered_since + patience:
            raise Unavailable(f"the subscriber has not answered for {patience:g} s, although its connection lives")
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
        if await _say(wire, stream, publication, now):
            pace.sent(now())


async def _say(wire: Wire, stream: PublisherStream, publication: Publication, now: Callable[[], float]) -> bool:
    """Send what there is to send now; whether that was anything. What was written is held by nobody here.

    Long answers are made one after the other, and what others wait for goes between them.
    """
    said = False
    responses = stream.one_by_one(now())
    while True:
        if stream.backlog > _LONG:
            async with publication.large:
                payload = next(responses, None)
                if payload is None or len(payload) > _SHORT:
                    await asyncio.sleep(_BREATH)
        else:
            payload = next(responses, None)
        if payload is None:
            return said
        said = True
        await wire.write(payload)


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
