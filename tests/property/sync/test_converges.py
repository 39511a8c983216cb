"""Any interleaving of changes, subscriptions, answers and reconnects ends with both sides agreeing."""

from collections import deque

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from isthmus_sync import WILDCARD, Acked, Nacked, Order, PublisherStream, ResourceCache, SubscriberStream
from isthmus_sync.publisher import PATIENCE
from isthmus_sync.wire import AHEAD, Request, Response

FIRST, SECOND = "type/first", "type/second"
TYPES = st.sampled_from([FIRST, SECOND])
NAMES = st.sampled_from(["a", "b", "c", "d"])
BODIES = st.sampled_from([b"1", b"22", b"bad", b"bad too"])
ORDER = Order((FIRST, SECOND), (SECOND, FIRST))


class Federation(RuleBasedStateMachine):
    """A publisher, a subscriber, and two queues between them that are emptied in any rhythm."""

    @initialize(
        first=st.sampled_from([{WILDCARD}, {"a", "b"}, {WILDCARD, "a"}]),
        second=st.sampled_from([{WILDCARD}, {"c"}]),
        limit=st.sampled_from([1, 40, 1 << 20]),
        portion=st.sampled_from([1, 1 << 20]),
        roll_age=st.sampled_from([0, 2, 128]),
        synced=st.booleans(),
        ahead=st.sampled_from([set(), {FIRST}, {FIRST, SECOND}]),
    )
    def start(
        self, first: set[str], second: set[str], limit: int, portion: int, roll_age: int, synced: bool, ahead: set[str]
    ) -> None:
        self.caches = {type_url: ResourceCache(type_url, roll_age=roll_age) for type_url in (FIRST, SECOND)}
        self.limit, self.portion = limit, portion
        self.subscriptions = {FIRST: first, SECOND: second}
        self.ahead = ahead
        self.subscriber = SubscriberStream(self.subscriptions, ahead=ahead)
        self.now = 0.0
        self.held: dict[str, dict[str, bytes]] = {FIRST: {}, SECOND: {}}
        self.accepted: dict[str, dict[str, str]] = {FIRST: {}, SECOND: {}}
        if synced:
            self.sync()
        self.open()

    def open(self) -> None:
        self.publisher = PublisherStream(self.caches, ORDER, limit=self.limit, first=self.portion)
        self.requests: deque[Request] = deque(self.subscriber.connect())
        self.responses: deque[bytes] = deque()
        self.unanswered = {FIRST: 0, SECOND: 0}
        self.last_nonce = {FIRST: "", SECOND: ""}
        # What this stream was told last, and which names it asked for since.
        self.told: dict[tuple[str, str], str] = {
            (t, name): version for t in self.caches for name, version in self.subscriber.known(t).items()
        }
        self.refused: dict[tuple[str, str], str] = {}
        self.asked: set[tuple[str, str]] = set()
        # What was told ahead of its turn, and what the other side has heard of that.
        self.foretold: dict[tuple[str, str], str] = {}
        self.heard: dict[tuple[str, str], bytes] = {}
        # A name without a known version is asked for by the first request.
        for request in self.requests:
            self.asked |= {
                (request.type_url, name)
                for name in request.resource_names_subscribe
                if name not in request.initial_resource_versions
            }

    @rule(type_url=TYPES, name=NAMES, body=BODIES)
    def put(self, type_url: str, name: str, body: bytes) -> None:
        self.caches[type_url].put(name, body)

    @rule(type_url=TYPES, name=NAMES)
    def remove(self, type_url: str, name: str) -> None:
        self.caches[type_url].remove(name)

    @rule()
    def sync(self) -> None:
        for cache in self.caches.values():
            cache.mark_synced()

    @rule(type_url=TYPES, name=NAMES | st.just(WILDCARD))
    def subscribe(self, type_url: str, name: str) -> None:
        self.requests.append(self.subscriber.change(type_url, subscribe=[name]))

    @rule(type_url=TYPES, name=NAMES | st.just(WILDCARD))
    def unsubscribe(self, type_url: str, name: str) -> None:
        self.requests.append(self.subscriber.change(type_url, unsubscribe=[name]))
        for other in list(self.held[type_url]):
            if not self.wanted(type_url, other):
                del self.held[type_url][other]
                self.heard.pop((type_url, other), None)

    @rule()
    def reconnect(self) -> None:
        self.open()

    @rule()
    def publisher_wakes(self) -> None:
        self.now += PATIENCE * 0.6  # what is not answered when it wakes up a second time comes late
        for payload in self.publisher.next(self.now):
            response = Response.FromString(payload)
            type_url = response.type_url
            assert self.caches[type_url].synced, "an unsynced cache is never answered from"
            if response.system_version_info == AHEAD:
                self.publisher_foretells(response)
                self.responses.append(payload)
                continue
            self.unanswered[type_url] += 1
            for resource in response.resources:
                key = (type_url, resource.name)
                if key not in self.asked and self.foretold.pop(key, None) is None:
                    assert self.told.get(key) != resource.version, "sent twice unasked"
                    assert self.refused.get(key) != resource.version, "a refused version was sent again unasked"
                self.asked.discard(key)
                self.told[key] = resource.version
            for name in response.removed_resources:
                key = (type_url, name)
                assert key in self.told or key in self.asked, "a removal of something never sent"
                self.asked.discard(key)
                self.foretold.pop(key, None)
                self.told.pop(key, None)
                self.refused.pop(key, None)  # what is created anew may be sent anew
            self.responses.append(payload)

    def publisher_foretells(self, response: Response) -> None:
        assert response.type_url in self.ahead and not response.nonce and not response.removed_resources
        assert self.unanswered[response.type_url] == 1, "told ahead of nothing"
        for resource in response.resources:
            key = (response.type_url, resource.name)
            assert self.told[key] and self.foretold.get(key, self.told[key]) != resource.version
            assert self.refused.get(key) != resource.version
            self.foretold[key] = resource.version

    @precondition(lambda self: self.responses)
    @rule()
    def subscriber_reads(self) -> None:
        update = self.subscriber.receive(Response.FromString(self.responses.popleft()))
        held = self.held[update.type_url]
        if update.ahead:
            self.heard |= {(update.type_url, name): changed.body for name, changed in update.changed.items()}
            return
        for name in (*update.changed, *update.removed):
            self.heard.pop((update.type_url, name), None)
        errors = {name: "bad" for name, changed in update.changed.items() if changed.body.startswith(b"bad")}
        for name, changed in update.changed.items():
            if name not in errors:
                held[name] = changed.body
        for name in update.removed:
            held.pop(name, None)
        self.requests.append(self.subscriber.answer(update, errors))
        self.last_nonce[update.type_url] = update.nonce

    @precondition(lambda self: self.requests)
    @rule()
    def publisher_reads(self) -> None:
        request = self.requests.popleft()
        type_url = request.type_url
        if not request.initial_resource_versions:
            self.asked |= {(type_url, name) for name in request.resource_names_subscribe}
        self.asked |= {(type_url, name) for name in request.resource_names_unsubscribe}
        if WILDCARD in request.resource_names_unsubscribe:
            self.asked |= {key for key in self.told if key[0] == type_url}
        outcome = self.publisher.receive(request, self.now)
        if isinstance(outcome, Acked | Nacked):
            self.unanswered[type_url] -= 1
        if isinstance(outcome, Nacked):
            for name, rejection in outcome.rejected.items():
                self.refused[type_url, name] = rejection.version
                if self.told.get((type_url, name)) == rejection.version:
                    self.told[type_url, name] = ""
            assert not outcome.suspects

    @rule(type_url=TYPES, stale=st.sampled_from(["", "0", "999"]))
    def late_or_foreign_answer(self, type_url: str, stale: str) -> None:
        # Not as the first request of a type: without names that would be a subscription to everything.
        if self.last_nonce[type_url]:
            self.requests.append(Request(type_url=type_url, response_nonce=stale or self.last_nonce[type_url]))

    @invariant()
    def at_most_one_response_of_a_type_is_in_flight(self) -> None:
        if hasattr(self, "unanswered"):
            assert all(0 <= count <= 1 for count in self.unanswered.values())

    def wanted(self, type_url: str, name: str) -> bool:
        names: set[str] = self.subscriber._names[type_url]
        return WILDCARD in names or name in names

    @rule()
    def everything_arrives(self) -> None:
        for _ in range(200):
            while self.requests:
                self.publisher_reads()
            self.publisher_wakes()
            if not self.responses:
                break
            while self.responses:
                self.subscriber_reads()
        assert not self.responses and not self.requests, "it goes on for ever"

    def teardown(self) -> None:
        if not hasattr(self, "publisher"):
            return
        self.sync()
        self.everything_arrives()
        assert not self.heard, "what was foretold had its turn"
        for type_url, cache in self.caches.items():
            held = self.held[type_url]
            for name in set(held) - cache.names():
                raise AssertionError(f"the removal of {name} was never announced")
            for resource in cache:
                if not self.wanted(type_url, resource.name):
                    assert resource.name not in held
                elif not resource.body.startswith(b"bad"):
                    assert held.get(resource.name) == resource.body
            assert set(self.subscriber.known(type_url)) == set(held)
            assert self.subscriber.synced(type_url)


def test_a_subscriber_that_stays_connected_converges_to_the_published_state() -> None:
    run_state_machine_as_test(Federation, settings=settings(max_examples=80, stateful_step_count=40, deadline=None))
