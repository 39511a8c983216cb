"""Whatever the order of what a gateway says: what it never had stays, and what it takes back goes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus_controller.exports.siblings import Place
from isthmus_sync import CAPACITY, EXPORT, FEDERATION, WILDCARD, PublisherStream, ResourceCache, SubscriberStream
from isthmus_sync.cache import version_of
from isthmus_sync.wire import Request, read_response

NAMES = tuple(f"shop/{letter}" for letter in "abcde")
TYPES = (EXPORT, CAPACITY)
some = st.sets(st.sampled_from(NAMES))


class Stream:
    """A gateway and the controller's end of its stream, a registry where somebody else has all that stands."""

    def __init__(self, standing: set[str], capacities: set[str], limit: int) -> None:
        self.registry = {EXPORT: set(standing), CAPACITY: standing & capacities}
        told = {kind: {name: version_of(b"") for name in self.registry[kind]} for kind in TYPES}
        for name in standing:
            told[CAPACITY].setdefault(name, "")
        self.caches = {kind: ResourceCache(kind) for kind in TYPES}
        self.publisher = PublisherStream(self.caches, FEDERATION, limit=limit, first=limit)
        self.subscriber = SubscriberStream({kind: {WILDCARD} for kind in TYPES}, told, ahead={CAPACITY})
        self.place = Place(told, 0.0)
        self.place.alone = False
        self.waiting: list[Request] = self.subscriber.connect()

    def put(self, kind: str, name: str, body: bytes = b"") -> None:
        self.caches[kind].put(name, body)

    def goes_on(self, data: st.DataObject, *, until_quiet: bool) -> None:
        """What is on its way arrives, one after the other or (drawn) later."""
        for _ in range(200):
            moved = bool(self.waiting)
            for _ in range(data.draw(st.integers(1, len(self.waiting))) if self.waiting else 0):
                self.publisher.receive(self.waiting.pop(0))
            for payload in self.publisher.one_by_one():
                moved = True
                self.takes(payload)
                early: bool = data.draw(st.booleans())
                if self.waiting and early:  # it is heard in the middle of a round
                    self.publisher.receive(self.waiting.pop(0))
            later: bool = not until_quiet and data.draw(st.booleans())
            if not moved or later:
                return
        raise AssertionError("it never ends")

    def takes(self, payload: bytes) -> None:
        update = self.subscriber.receive(read_response(payload))
        if update.ahead:
            return
        kept = self.place.hear(update)
        self.registry[update.type_url] |= set(update.changed)
        self.registry[update.type_url] -= update.removed - kept
        self.waiting.append(self.subscriber.answer(update))


@settings(max_examples=60, deadline=None)
@given(st.data(), some, some, some, some, some, st.booleans(), st.sampled_from((1, 1 << 20)))
def test_what_a_gateway_never_had_stays_and_what_it_takes_back_goes(
    data: st.DataObject,
    standing: set[str],
    capacities: set[str],
    had: set[str],
    changed: set[str],
    copied: set[str],
    synced: bool,
    limit: int,
) -> None:
    stream = Stream(standing, capacities, limit)
    for name in had:
        stream.put(EXPORT, name, b"new" if name in changed else b"")
        stream.put(CAPACITY, name, b"new" if name in changed else b"")
    stream.caches[EXPORT].mark_synced()
    if synced:
        stream.caches[CAPACITY].mark_synced()
    stream.goes_on(data, until_quiet=False)
    for name in copied:  # while it is still being heard, as it is in the registry
        stream.put(EXPORT, name, b"new" if name in changed else b"")
        stream.put(CAPACITY, name, b"new" if name in changed else b"")
        stream.goes_on(data, until_quiet=False)
    stream.caches[CAPACITY].mark_synced()
    stream.goes_on(data, until_quiet=True)

    has = had | copied
    assert stream.place.heard
    assert stream.registry[EXPORT] == standing | has
    assert stream.registry[CAPACITY] == (standing & capacities) | has
    assert stream.place.lacking(lambda name: name in stream.registry[EXPORT]) == sorted(standing - has)

    deleted = data.draw(st.sets(st.sampled_from(sorted(has)))) if has else set()
    for name in deleted:
        for kind in TYPES:
            stream.caches[kind].remove(name)
        stream.goes_on(data, until_quiet=False)
    stream.goes_on(data, until_quiet=True)
    assert stream.registry[EXPORT] == (standing | has) - deleted
    assert stream.registry[CAPACITY] == ((standing & capacities) | has) - deleted
