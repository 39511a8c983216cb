"""Follow what one peer wants, has, and must still be told, for resources of one type."""

from collections.abc import Mapping

from isthmus_sync.cache import Resource, ResourceCache
from isthmus_sync.flight import InFlight, Refusals, reasons_of
from isthmus_sync.outcomes import Acked, Nacked, Rejection
from isthmus_sync.room import check_request
from isthmus_sync.walk import Portion, Walk
from isthmus_sync.wire import AHEAD, MORE, TELL_AHEAD, Request, join_response

WILDCARD = "*"
NEVER = float("inf")
_ANONYMOUS = ""  # the version of a resource that the peer was told about and does not hold


class TypeStream:
    """The state of one type on one stream. A *round* numbers the moments at which changes were taken in."""

    def __init__(self, cache: ResourceCache, *, portion: Portion, isolate: bool, max_names: int | None = None) -> None:
        self._cache = cache
        self._portion = portion
        self._isolate = isolate
        self._max_names = max_names
        self._started = False
        self._wildcard = False
        self._names: set[str] = set()
        self._seen: int | None = None  # generation of the cache taken in; None: compare everything
        self._walk: Walk | None = None  # what of everything has not been compared yet
        self._sent: dict[str, str] = {}  # name -> version the peer was told last
        self._refusals = Refusals()
        self._due: dict[str, int] = {}  # name -> round; in the order of rounds, like `_gone`
        self._gone: dict[str, int] = {}
        self._asked: set[str] = set()  # names to answer even when nothing changed
        self._repeat_at_start: set[str] = set()
        self._greet = False  # a wildcard was asked for: answer it even when there is nothing
        self._in_flight: InFlight | None = None
        self._tell_ahead = False
        self._foretold: dict[str, str] = {}  # name -> version that was told ahead of its turn, which is still to come

    # -- what the peer says ---------------------------------------------------------------------------------------

    def subscribe(self, request: Request, current: int) -> None:
        """Take over the subscription changes of a request. They count whatever its nonce is."""
        subscribe = list(request.resource_names_subscribe)
        unsubscribe = list(request.resource_names_unsubscribe)
        check_request(request, len(self._names), self._max_names)
        known: Mapping[str, str] = {}
        if not self._started:
            self._started = True
            self._tell_ahead = TELL_AHEAD in request.node.client_features
            known = dict(request.initial_resource_versions)
            if not subscribe:
                # The legacy wildcard: xds_protocol, "How the client specifies what resources to return".
                subscribe = [WILDCARD]
        for name in unsubscribe:
            self._unsubscribe(name, current)
        for name in subscribe:
            self._subscribe(name, known, current)
        for name, version in known.items():
            if self._wanted(name):
                self._sent[name] = version

    def _subscribe(self, name: str, known: Mapping[str, str], current: int) -> None:
        if name == WILDCARD:
            self._wildcard = self._greet = True
            self._seen = None
            return
        self._names.add(name)
        if name in known and name not in self._repeat_at_start:
            return  # it came back with what it has: only differences are sent
        self._ask(name, current)

    def _unsubscribe(self, name: str, current: int) -> None:
        if name == WILDCARD:
            self._wildcard, self._walk = False, None
            for other in [other for other in self._sent if other not in self._names]:
                self._forget(other)
            for other in [other for other in self._due if other not in self._names]:
                self._forget(other)
            return
        self._names.discard(name)
        if self._wildcard:
            # The peer cannot know whether the wildcard covers the name: tell it, with the resource or its removal.
            self._ask(name, current)
        else:
            self._forget(name)

    def _ask(self, name: str, current: int) -> None:
        self._asked.add(name)
        self._due.setdefault(name, current)

    def _forget(self, name: str) -> None:
        for memory in (self._sent, self._refusals.versions, self._due, self._gone, self._foretold):
            memory.pop(name, None)
        self._asked.discard(name)

    def _wanted(self, name: str) -> bool:
        return self._wildcard or name in self._names

    def answer(self, request: Request, current: int, now: float) -> Acked | Nacked | None:
        """Take in an ACK or NACK; None for a nonce that is not in flight (late, or of another stream)."""
        flight = self._in_flight
        if flight is None or request.response_nonce != flight.nonce:
            return None
        self._in_flight = None
        self._portion.answered(now - flight.at)
        # NACK means that error_detail is present, never that a version differs (xds_protocol, "ACK/NACK").
        if not request.HasField("error_detail"):
            self._refusals.accept(flight.sent)
            return Acked(self._cache.type_url, flight.sent, flight.removed)
        message = request.error_detail.message
        reasons = reasons_of(request, flight)
        if not reasons and len(flight.sent) > 1 and self._isolate:
            return self._split(flight, message, current)
        by_name = bool(reasons)
        if not by_name:
            reasons = dict.fromkeys(flight.sent, message)
        self._refusals.refuse(flight, reasons, self._sent, by_name=by_name)
        self._refusals.accept({name: version for name, version in flight.sent.items() if name not in reasons})
        return Nacked(
            type_url=self._cache.type_url,
            rejected={name: Rejection(flight.sent.get(name, ""), reason) for name, reason in reasons.items()},
            accepted={name: version for name, version in flight.sent.items() if name not in reasons},
            removed=tuple(name for name in flight.removed if name not in reasons),
            suspects=(),
            message=message,
        )

    def _split(self, flight: InFlight, message: str, current: int) -> Nacked:
        self._refusals.split(flight)
        for name in flight.removed:  # the removals of a refused response may not have happened either
            if name not in self._cache and self._wanted(name):
                self._sent.setdefault(name, _ANONYMOUS)
                self._gone.setdefault(name, current)
        return Nacked(self._cache.type_url, {}, {}, (), tuple(flight.sent), message)

    # -- what the peer must be told -------------------------------------------------------------------------------

    def absorb(self, current: int) -> None:
        """Take in what changed in the cache since the last time, in O(changes)."""
        if not self._started or not self._cache.synced or self._seen == self._cache.generation:
            return
        changed = None if self._seen is None else self._cache.changed_since(self._seen)
        if changed is None:
            changed = self._compare(current)
        self._seen = self._cache.generation
        for name in changed:
            self._consider(name, current)

    def _compare(self, current: int) -> list[str]:
        """Begin to compare everything: the names to consider now; what else there is comes up on the walk."""
        names = dict.fromkeys((*self._sent, *self._due))
        if not self._wildcard:
            return [*names, *(name for name in self._names if name not in names)]
        roll, generation = self._cache.roll()
        self._walk = Walk(roll, self._walk.since if self._walk else current)
        names.update(dict.fromkeys(self._cache.changed_since(generation) or ()))
        return list(names)

    def _consider(self, name: str, current: int) -> None:
        if not self._wanted(name):
            return
        resource = self._cache.get(name)
        if resource is not None:
            self._gone.pop(name, None)
            if self._is_news(resource):
                self._due.setdefault(name, current)
                return
        elif name in self._sent:
            self._gone.setdefault(name, current)
        if name not in self._asked:
            self._due.pop(name, None)

    def _is_news(self, resource: Resource) -> bool:
        version = resource.version
        if resource.name in self._foretold:
            return True  # whatever it has become since: what was foretold is answered for in its turn
        return version != self._sent.get(resource.name) and version != self._refusals.versions.get(resource.name)

    def repeat(self, name: str, current: int) -> None:
        """Send `name` again although it did not change, when the peer has it (Order.repeats)."""
        if not self._started:
            # It just came back and its subscription, with the versions it has, is still on its way.
            self._repeat_at_start.add(name)
        elif (
            self._wanted(name) and name in self._sent and self._cache_version(name) != self._refusals.versions.get(name)
        ):
            self._ask(name, current)

    def _cache_version(self, name: str) -> str:
        resource = self._cache.get(name)
        return resource.version if resource is not None else _ANONYMOUS

    @property
    def started(self) -> bool:
        """Whether the peer has spoken about this type on this stream."""
        return self._started

    @property
    def unsent_since(self) -> float:
        """The round of the oldest addition that was not sent yet."""
        return min(next(iter(self._due.values()), NEVER), self._walked_since) if self._cache.synced else NEVER

    @property
    def unsettled_since(self) -> float:
        """The round of the oldest change, sent or not, that the peer has not answered."""
        if not self._cache.synced:
            return NEVER
        return min(
            next(iter(self._due.values()), NEVER),
            next(iter(self._gone.values()), NEVER),
            self._walked_since,
            self._in_flight.since if self._in_flight else NEVER,
            self._refusals.since,
        )

    @property
    def _walked_since(self) -> float:
        return self._walk.since if self._walk is not None else NEVER

    @property
    def backlog(self) -> int:
        """How many resources have to be looked at for the next response, about."""
        if self._seen is None and self._started and self._cache.synced:
            everything = self._portion.count(len(self._cache)) if self._wildcard else len(self._names)
            return max(len(self._sent), everything)
        if self._in_flight is not None:
            return 0
        left = self._walk.left if self._walk is not None else 0
        return self._portion.count(len(self._due) + left) + len(self._gone)

    @property
    def pending(self) -> bool:
        """Whether there is anything to send, now or once the peer has answered."""
        return bool(self._due or self._gone or self._refusals.suspects or self._greet or self._walk)

    def take(
        self, nonce: str, additions_before: float, removals_before: float, current: int, now: float
    ) -> bytes | None:
        """The next response, of changes older than the given rounds, or None. At most one is in flight."""
        # Who asked in the middle of a round is compared in the next one: until then the answer would be "nothing".
        if self._in_flight is not None or not self._started or not self._cache.synced or self._seen is None:
            return None
        removed: list[str] = []
        if (half := self._refusals.next_half(self._cache, self._sent)) is not None:
            resources, since = half
            last = not (self._refusals.suspects or self._due or self._walk)
        else:
            resources, removed, since, last = self._next_changes(additions_before, removals_before, current)
            if not resources and not removed and not (self._greet and last):
                return None
            self._greet = not last
        self._in_flight = InFlight(
            nonce=nonce,
            sent={resource.name: resource.version for resource in resources},
            before={resource.name: self._sent.get(resource.name, _ANONYMOUS) for resource in resources},
            removed=tuple(removed),
            since=since,
            at=now,
        )
        self._sent.update(self._in_flight.sent)
        for name in removed:
            self._sent.pop(name, None)
            self._refusals.versions.pop(name, None)
        for name in (*self._in_flight.sent, *removed):
            self._foretold.pop(name, None)
        label = str(self._cache.generation) if last else MORE
        return join_response(self._cache.type_url, nonce, label, (r.framed for r in resources), removed)

    def foretell(self) -> bytes | None:
        """What has become of resources that the peer was told of, while it has not answered; its turn is still to come.

        A subscriber that wants it so may act on it, and neither keeps nor answers it.
        """
        if not self._tell_ahead or self._in_flight is None:
            return None
        news: dict[str, Resource] = {}
        size = 0
        for name in self._due:
            resource = self._cache.get(name)
            told = self._foretold.get(name) or self._sent.get(name)
            if resource is None or not told or resource.version in (told, self._refusals.versions.get(name)):
                continue
            size += len(resource.framed)
            if news and size > self._portion.bytes:
                break
            news[name] = resource
        if not news:
            return None
        self._foretold.update({name: resource.version for name, resource in news.items()})
        return join_response(self._cache.type_url, "", AHEAD, (r.framed for r in news.values()), ())

    @property
    def held_back_since(self) -> float:
        """Since when changes may wait for the answer to others, for a peer that takes them ahead of their turn."""
        held_back = self._tell_ahead and self._in_flight is not None and self._due
        return self._in_flight.at if held_back and self._in_flight is not None else NEVER

    def _next_changes(
        self, additions_before: float, removals_before: float, current: int
    ) -> tuple[list[Resource], list[str], int, bool]:
        removed: list[str] = []
        resources, since = self._walk_on(additions_before, current)
        size, last = sum(len(resource.framed) for resource in resources), self._walk is None
        settled: list[str] = []
        for name, at in self._due.items():
            asked = name in self._asked
            if at >= additions_before and not asked:
                last = False
                continue
            resource = self._cache.get(name)
            if resource is None:
                removed.append(name)  # an unknown name is told at once, and pushed when it is created
                self._gone.pop(name, None)
            elif size and size + len(resource.framed) > self._portion.bytes:
                last = False
                break
            elif asked or self._is_news(resource):
                resources.append(resource)
                size += len(resource.framed)
            since = min(since, at)
            settled.append(name)
        for name in settled:
            self._asked.discard(name)
            del self._due[name]
        for name, at in list(self._gone.items()):
            if at >= removals_before:
                break
            removed.append(name)
            since = min(since, at)
            del self._gone[name]
        return resources, removed, since, last

    def _walk_on(self, additions_before: float, current: int) -> tuple[list[Resource], int]:
        """What comes next of a comparison of everything: before newer changes, or these could keep it from its end."""
        walk = self._walk
        if walk is None or walk.since >= additions_before:
            return [], current
        # What is due has its own round, and is sent with it.
        taken = walk.take(self._cache, self._portion.bytes, lambda r: r.name not in self._due and self._is_news(r))
        if not walk.left:
            self._walk = None
        return taken, walk.since if taken else current

    @property
    def in_flight(self) -> InFlight | None:
        """The response that the peer has not answered yet."""
        return self._in_flight
