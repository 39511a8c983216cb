"""The cache: versions, changes since a moment, and a bounded memory of what is gone."""

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_sync import ResourceCache
from isthmus_sync.cache import BODY_LIMIT


def test_equal_bytes_change_nothing() -> None:
    cache = ResourceCache("t")
    assert cache.put("a", b"1")
    generation = cache.generation
    assert not cache.put("a", b"1")
    assert cache.generation == generation


def test_equal_bytes_have_equal_versions_everywhere() -> None:
    one, other = ResourceCache("t"), ResourceCache("t")
    one.put("a", b"0")
    one.put("a", b"1")
    other.put("a", b"1")
    first, second = one.get("a"), other.get("a")
    assert first is not None and second is not None
    assert first.version == second.version


def test_the_body_comes_out_as_it_went_in() -> None:
    cache = ResourceCache("t")
    for body in (b"", b"x", b"y" * 127, b"z" * 70_000):
        cache.put("a", body)
        resource = cache.get("a")
        assert resource is not None and resource.body == body


def test_changes_since_a_generation_name_each_resource_once_oldest_first() -> None:
    cache = ResourceCache("t")
    cache.put("a", b"1")
    start = cache.generation
    cache.put("b", b"1")
    cache.put("a", b"2")
    cache.put("b", b"2")
    cache.remove("a")
    assert cache.changed_since(start) == ["b", "a"]
    assert cache.changed_since(cache.generation) == []


def test_names_gone_for_long_are_forgotten_and_a_slow_reader_is_told_to_compare_everything() -> None:
    cache = ResourceCache("t")
    for number in range(3000):
        cache.put(f"n{number}", b"1")
        cache.remove(f"n{number}")
    assert cache.changed_since(0) is None
    assert len(cache._changes) < 2100
    recent = cache.generation
    cache.put("new", b"1")
    assert cache.changed_since(recent) == ["new"]


def test_becoming_synced_is_a_change() -> None:
    cache = ResourceCache("t")
    before = cache.generation
    cache.mark_synced()
    assert cache.synced and cache.generation > before
    cache.mark_synced()
    assert cache.generation == before + 1


@pytest.mark.parametrize("name", ["", "*"])
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no resource name"):
        ResourceCache("t").put(name, b"")


def test_a_resource_that_no_peer_would_take_is_refused() -> None:
    with pytest.raises(InvalidInput, match="fit one message"):
        ResourceCache("t").put("a", bytes(BODY_LIMIT + 1))


def test_an_empty_version_is_refused() -> None:
    with pytest.raises(ValueError, match="never empty"):
        ResourceCache("t").put("a", b"", version="")
