"""Decide what one peer is sent next: the publishing side of a delta xDS stream, without I/O."""

from collections.abc import Iterator, Mapping

from isthmus_core.errors import InvalidInput
from isthmus_sync.cache import ResourceCache
from isthmus_sync.order import Order
from isthmus_sync.outcomes import Outcome, Unserved
from isthmus_sync.typestream import NEVER, TypeStream
from isthmus_sync.walk import Portion
from isthmus_sync.wire import Request

RESPONSE_LIMIT = 16 * 1024 * 1024
"""Resource bytes in one response; a larger answer goes in parts. Receivers take 64 MiB."""

PATIENCE = 0.1
"""Seconds that changes wait for the answer to others before they are told ahead of their turn."""


class PublisherStream:
    """One stream to one subscriber. Give it every request, then send what `next` returns; repeat after every change.

    Responses carry `first` bytes of resources, and twice as many after each that was answered soon, up to `limit`.
    """

    def __init__(
        self,
        caches: Mapping[str, ResourceCache],
        order: Order | None = None,
        *,
        limit: int = RESPONSE_LIMIT,
        first: int = RESPONSE_LIMIT,
        max_names: int | None = None,
    ) -> None:
        self._order = order or Order(tuple(caches), tuple(caches)[::-1])
        self._caches = caches
        portion = Portion(first, limit)
        self._types = {
            type_url: TypeStream(cache, portion=portion, isolate=self._order.isolate, max_names=max_names)
            for type_url, cache in caches.items()
        }
        listed = [type_url for type_url in self._order.additions if type_url in caches]
        self._sequence = (*listed, *(type_url for type_url in caches if type_url not in listed))
        self._earlier = {type_url: _before(type_url, self._order.additions, caches) for type_url in caches}
        self._referrers = {type_url: _before(type_url, self._order.removals, caches) for type_url in caches}
        self._expected = [type_url for type_url in self._order.expected if type_url in caches]
        self._round = 0
        self._nonce = 0

    def receive(self, request: Request, now: float = 0.0) -> Outcome | None:
        """Take in a request; what it acknowledges or refuses, if anything. Raises InvalidInput for a broken peer."""
        if not request.type_url:
            raise InvalidInput("the peer sent a discovery request without a type_url")
        stream = self._types.get(request.type_url)
        if stream is None:
            return Unserved(request.type_url)
        outcome = stream.answer(request, self._round, now)
        stream.subscribe(request, self._round)
        return outcome

    @property
    def backlog(self) -> int:
        """How many resources `next` has to look at, about."""
        return sum(stream.backlog for stream in self._types.values())

    def next(self, now: float = 0.0) -> list[bytes]:
        """The responses to send now, in this order, serialised; at most one for each type. `now` is in seconds."""
        return list(self.one_by_one(now))

    def one_by_one(self, now: float = 0.0) -> Iterator[bytes]:
        """As `next`, each made when it is asked for: who sends one before that holds no others in memory."""
        self._round += 1
        for stream in self._types.values():
            stream.absorb(self._round)
        # What is sent of one type may be due to be repeated of the next.
        for type_url in self._sequence:
            if self._types[type_url].pending and (payload := self._say(type_url, now)) is not None:
                yield payload

    @property
    def unanswered_since(self) -> float:
        """When the oldest response was made that the peer has not answered; infinite when it has answered all."""
        return min((s.in_flight.at for s in self._types.values() if s.in_flight is not None), default=NEVER)

    def ahead_at(self, now: float) -> float | None:
        """When `next` has more to say although nothing changes and nobody answers; None for never."""
        at = min((stream.held_back_since + PATIENCE for stream in self._types.values()), default=NEVER)
        return at if now < at < NEVER else None

    def _say(self, type_url: str, now: float) -> bytes | None:
        stream = self._types[type_url]
        if now >= stream.held_back_since + PATIENCE:
            return stream.foretell()
        return self._take(type_url, now)

    def _take(self, type_url: str, now: float) -> bytes | None:
        stream = self._types[type_url]
        earlier = (self._types[other].unsent_since for other in self._earlier[type_url])
        referrers = (self._types[other].unsettled_since for other in self._referrers[type_url])
        complete = all(self._types[other].started for other in self._expected)
        payload = stream.take(
            nonce=str(self._nonce + 1),
            additions_before=min(earlier, default=NEVER),
            removals_before=min(referrers, default=NEVER) if complete else 0,
            current=self._round,
            now=now,
        )
        if payload is None:
            return None
        self._nonce += 1
        if type_url in self._order.repeats and stream.in_flight is not None:
            target, name_of = self._order.repeats[type_url]
            for name in stream.in_flight.sent:
                resource = self._caches[type_url].get(name)
                if resource is not None and target in self._types:
                    self._types[target].repeat(name_of(name, resource.body), self._round)
        return payload


def _before(type_url: str, sequence: tuple[str, ...], caches: Mapping[str, ResourceCache]) -> tuple[str, ...]:
    """The types of `sequence` that are published here and stand before `type_url`; none when it is not listed."""
    if type_url not in sequence:
        return ()
    return tuple(other for other in sequence[: sequence.index(type_url)] if other in caches)
