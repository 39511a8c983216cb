"""Whatever is told ahead of etcd, in whatever order writes succeed, fail and are seen: etcd has the last word."""

from hypothesis import given
from hypothesis import strategies as st

from isthmus_controller.feeds import Feeds
from isthmus_controller.foresight import Foresight
from isthmus_controller.registry import Registry, Wish
from isthmus_controller.store.keys import ClusterKey, EndpointsKey, ExportKey, Key, Keys
from isthmus_controller.store.values import Change
from isthmus_core.model import Capacity, Cluster, Export, ServicePort, ServiceType, ZoneCapacity
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_sync import CAPACITY, codec

KEYS = Keys.of("fed.example")
WEST, EAST = ClusterId("west"), ClusterId("east")
ECHO = ServiceName("shop", "echo")
KEY = EndpointsKey(ECHO, WEST)
NAME = "shop/echo/west"


def body(ready: int) -> bytes:
    zone = ZoneCapacity(Locality("aws", "eu", "a"), ready, 9)
    return codec.capacity_message(Capacity(ECHO, WEST, (zone,))).SerializeToString(deterministic=True)


class Replica:
    """A replica's registry and feeds beside an etcd that is a list of revisions."""

    def __init__(self) -> None:
        self.registry, self.feeds = Registry(KEYS), Feeds()
        self.foresight = Foresight(self.registry, self.feeds)
        self.etcd: list[Change] = []
        self.seen = 0
        member = Cluster(WEST, Locality("aws", "eu", "a"), trust_domain="west.fed.example")
        offer = Export(ECHO, WEST, ServiceType.CLUSTER_SET_IP, (ServicePort("http", 80),))
        self.write(ClusterKey(WEST), codec.cluster_message(member).SerializeToString())
        self.write(ExportKey(ECHO, WEST), codec.export_message(offer).SerializeToString())

    def write(self, key: Key, value: bytes | None) -> int:
        revision = len(self.etcd) + 1
        self.etcd.append(Change(KEYS.path(key), value, revision, revision))
        return revision

    def see(self, count: int) -> None:
        """The watch brings the next revisions."""
        for change in self.etcd[self.seen : self.seen + count]:
            self.seen = change.mod_revision
            self.feeds.tell(self.foresight.newest(self.registry.apply([change]), self.seen))
        self.foresight.reached(self.seen)

    @property
    def told(self) -> bytes | None:
        resource = self.feeds.shared[CAPACITY].get(NAME)
        return resource.body if resource else None


def test_a_change_is_told_before_etcd_has_it_and_an_older_state_that_comes_meanwhile_is_no_news() -> None:
    replica = Replica()
    replica.write(KEY, body(1))
    replica.see(9)
    replica.write(KEY, body(2))
    replica.foresight.expect([Wish(KEY, body(3))])
    assert replica.told == body(3)
    replica.see(9)
    assert replica.told == body(3)
    replica.foresight.written(KEY, body(3), replica.write(KEY, body(3)))
    replica.see(9)
    assert replica.told == body(3)


def test_what_etcd_does_not_take_is_taken_back() -> None:
    replica = Replica()
    replica.write(KEY, body(1))
    replica.see(9)
    replica.foresight.expect([Wish(KEY, body(2))])
    replica.foresight.give_up([Wish(KEY, body(2))])
    assert replica.told == body(1)


def test_nothing_comes_into_being_ahead_of_etcd_and_what_was_withdrawn_is_gone() -> None:
    replica = Replica()
    replica.see(9)
    replica.foresight.expect([Wish(KEY, body(1))])
    assert replica.told is None
    replica.write(KEY, body(1))
    replica.see(9)
    replica.foresight.expect([Wish(KEY, body(2))])
    replica.write(ExportKey(ECHO, WEST), None)
    replica.see(9)
    assert replica.told is None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("expect"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["commit", "commit late", "fail", "see"]), st.integers(1, 3)),
        st.tuples(st.just("another replica writes"), st.integers(1, 4)),
        st.tuples(st.just("another replica removes"), st.just(0)),
    ),
    max_size=40,
)


@given(steps)
def test_in_the_end_the_feeds_tell_what_etcd_holds(taken: list[tuple[str, int]]) -> None:
    replica = Replica()
    waiting: list[bytes] = []
    answers: list[tuple[bytes, int]] = []
    for step, number in taken:
        if step == "expect":
            waiting.append(body(number))
            replica.foresight.expect([Wish(KEY, body(number))])
        elif step == "see":
            replica.see(number)
        elif step == "another replica writes":
            replica.write(KEY, body(number))
        elif step == "another replica removes":
            replica.write(KEY, None)
        elif waiting:
            value = waiting.pop(0)
            if step == "fail":
                replica.foresight.give_up([Wish(KEY, value)])
                continue
            answers.append((value, replica.write(KEY, value)))
            if step == "commit":
                _answer(replica, answers)
    for value in waiting:
        replica.foresight.give_up([Wish(KEY, value)])
    _answer(replica, answers)
    replica.see(len(replica.etcd))
    held = [change.value for change in replica.etcd if change.key == KEYS.path(KEY)]
    assert replica.told == (held[-1] if held else None)


def _answer(replica: Replica, answers: list[tuple[bytes, int]]) -> None:
    for value, revision in answers:
        replica.foresight.written(KEY, value, revision)
        replica.foresight.give_up([Wish(KEY, value)])
    answers.clear()
