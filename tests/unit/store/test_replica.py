"""Finding what must change, and grouping what etcd sends: no change is lost, none is invented."""

from aetcd import rpc
from hypothesis import given
from hypothesis import strategies as st

from isthmus_controller.store import Delete, KeyValue, Put
from isthmus_controller.store.client import split
from isthmus_controller.store.replica import Held, apply, differences
from isthmus_controller.store.values import MAX_OPERATIONS, MAX_TRANSACTION_BYTES, Write
from isthmus_controller.store.wire import by_revision, end_of, key_bytes, key_text

NAME = st.text("abc/", min_size=1, max_size=3)
HELD = st.builds(Held, st.binary(max_size=2), st.integers(1, 9), st.integers(1, 9))


@given(st.dictionaries(NAME, HELD), st.dictionaries(NAME, HELD))
def test_the_differences_turn_what_is_held_into_what_is_wanted(held: dict[str, Held], wanted: dict[str, Held]) -> None:
    items = [KeyValue(key, h.value, h.mod_revision, h.create_revision) for key, h in wanted.items()]
    changes = differences(held, items, 10)
    apply(held, changes)
    assert held == wanted
    assert differences(held, items, 11) == ()


@given(st.dictionaries(NAME, HELD), st.dictionaries(NAME, HELD))
def test_what_is_equal_is_not_told_again(held: dict[str, Held], wanted: dict[str, Held]) -> None:
    items = [KeyValue(key, h.value, h.mod_revision, h.create_revision) for key, h in wanted.items()]
    told = {change.key for change in differences(held, items, 10)}
    assert told == {key for key in held.keys() | wanted.keys() if held.get(key) != wanted.get(key)}


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=4))
def test_the_end_of_a_prefix_covers_what_begins_with_it_and_nothing_else(prefix: bytes, key: bytes) -> None:
    end = end_of(key_text(prefix))
    inside = key >= prefix and (end == b"\0" or key < end)
    assert inside == key.startswith(prefix)


@given(st.binary(max_size=8))
def test_a_foreign_key_survives_the_way_through_text(key: bytes) -> None:
    assert key_bytes(key_text(key)) == key


def test_a_transaction_is_one_batch_and_a_deletion_has_no_value() -> None:
    put = rpc.Event(kv=rpc.KeyValue(key=b"a", value=b"1", mod_revision=5, create_revision=5))
    gone = rpc.Event(type=rpc.Event.DELETE, kv=rpc.KeyValue(key=b"b", mod_revision=5))
    later = rpc.Event(kv=rpc.KeyValue(key=b"a", value=b"2", mod_revision=6, create_revision=5))
    first, second = by_revision([put, gone, later])
    assert (first.revision, [(c.key, c.value) for c in first.changes]) == (5, [("a", b"1"), ("b", None)])
    assert (second.revision, second.changes[0].create_revision) == (6, 5)


WRITE = st.one_of(
    st.builds(Put, NAME, st.binary(max_size=3).map(lambda b: b * 100_000)), st.builds(Delete, NAME, st.booleans())
)


@given(st.lists(WRITE, max_size=300))
def test_split_keeps_every_operation_in_order_and_every_transaction_acceptable(operations: list[Write]) -> None:
    chunks = list(split(operations))
    assert [operation for chunk in chunks for operation in chunk] == operations
    for chunk in chunks:
        assert 0 < len(chunk) <= MAX_OPERATIONS
        assert len({operation.key for operation in chunk}) == len(chunk)
        assert sum(len(o.value) for o in chunk if isinstance(o, Put)) <= MAX_TRANSACTION_BYTES or len(chunk) == 1
        assert len(chunk) == 1 or not any(isinstance(o, Delete) and o.prefix for o in chunk)
