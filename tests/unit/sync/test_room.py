"""What one peer may ask for, and that it is asked before anything is kept."""

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_sync import ResourceCache
from isthmus_sync.publisher import PublisherStream
from isthmus_sync.wire import Request

TYPE = "type.googleapis.com/test.Thing"


def publisher(most: int | None, resources: int = 0) -> PublisherStream:
    cache = ResourceCache(TYPE)
    for number in range(resources):
        cache.put(f"r{number}", b"x")
    cache.mark_synced()
    return PublisherStream({TYPE: cache}, max_names=most)


def names(first: int, count: int) -> Request:
    return Request(type_url=TYPE, resource_names_subscribe=[f"n{number}" for number in range(first, first + count)])


def test_names_are_counted_over_all_requests_of_a_stream() -> None:
    stream = publisher(10)
    stream.receive(names(0, 6))
    with pytest.raises(InvalidInput, match="subscribed to more than 10 names of one type"):
        stream.receive(names(6, 5))
    stream.receive(Request(type_url=TYPE, resource_names_unsubscribe=["n0"]))
    stream.receive(names(6, 5))


def test_without_a_limit_there_is_none() -> None:
    stream = publisher(None)
    for first in range(0, 300_000, 100_000):
        stream.receive(names(first, 100_000))
    assert stream.backlog == 300_000


def test_the_backlog_is_what_an_answer_is_chosen_from() -> None:
    stream = publisher(None, resources=700)
    assert stream.backlog == 0, "nobody has asked"
    stream.receive(Request(type_url=TYPE, resource_names_subscribe=["*"]))
    assert stream.backlog == 700
    assert len(stream.next()) == 1
    assert stream.backlog == 0
    stream.receive(Request(type_url=TYPE, response_nonce="1", resource_names_subscribe=["*"]))
    assert stream.backlog == 700, "asked again: everything is compared anew"
