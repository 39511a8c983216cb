"""What one peer costs its publisher until it has shown that it takes what it is told."""

import itertools
import tracemalloc
from collections.abc import Iterator, Mapping

from isthmus_sync import PublisherStream, ResourceCache
from isthmus_sync.wire import MORE, Request, Response

TYPE = "type.googleapis.com/test.Thing"
WORLD = 5_000
FIRST, MOST = 32 * 1024, 512 * 1024


def filled(resources: int = WORLD) -> ResourceCache:
    cache = ResourceCache(TYPE)
    for number in range(resources):
        cache.put(f"shop/service-{number}", f"{number:0100}".encode())
    cache.mark_synced()
    return cache


def stream_of(cache: ResourceCache, first: int = FIRST, known: Mapping[str, str] | None = None) -> PublisherStream:
    stream = PublisherStream({TYPE: cache}, first=first, limit=MOST)
    stream.receive(Request(type_url=TYPE, resource_names_subscribe=["*"], initial_resource_versions=known or {}))
    return stream


def answer(stream: PublisherStream, payload: bytes, at: float = 0.0) -> Response:
    response = Response.FromString(payload)
    stream.receive(Request(type_url=TYPE, response_nonce=response.nonce), at)
    return response


def told(stream: PublisherStream, seconds: float = 0.0) -> Iterator[Response]:
    """Everything that a peer is told that answers after so long."""
    now = 0.0
    while payloads := stream.next(now):
        (payload,) = payloads
        yield answer(stream, payload, now + seconds)
        now += seconds


def names_of(response: Response) -> list[str]:
    return [resource.name for resource in response.resources]


def test_a_hundred_streams_that_never_answer_cost_as_much_in_a_large_world_as_in_a_small_one() -> None:
    cost = {}
    for resources in (WORLD, 4 * WORLD):
        cache = filled(resources)
        tracemalloc.start()
        streams = [stream_of(cache) for _ in range(100)]
        assert all(len(stream.next()) == 1 for stream in streams)
        cost[resources], _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    small, large = cost.values()
    assert small < 100 * 60_000, "bytes"
    assert large - small < 4 * WORLD * 16, "one list of names, whoever walks it"


def test_a_peer_that_answers_at_once_is_told_twice_as_much_each_time() -> None:
    sizes = [response.ByteSize() for response in told(stream_of(filled()))]
    assert sizes[0] <= FIRST * 1.02
    assert all(1.9 < later / earlier < 2.1 for earlier, later in itertools.pairwise(sizes[:-1]))
    everything = [response.ByteSize() for response in told(stream_of(filled(20_000)))]
    assert MOST * 0.99 < max(everything) < MOST * 1.02


def test_a_peer_that_answers_late_is_not_told_more() -> None:
    assert all(response.ByteSize() <= FIRST * 1.02 for response in told(stream_of(filled()), seconds=1.5))


def test_all_parts_together_are_everything_once_and_the_last_one_says_so() -> None:
    responses = list(told(stream_of(filled())))
    names = [name for response in responses for name in names_of(response)]
    assert len(responses) > 4
    assert sorted(names) == sorted(filled().names())
    assert [response.system_version_info == MORE for response in responses] == [True] * (len(responses) - 1) + [False]


def test_what_changes_and_goes_between_two_parts_is_told_as_it_is_then() -> None:
    cache = filled()
    stream = stream_of(cache)
    first = answer(stream, stream.next()[0])
    told_first, *_ = names_of(first)
    late, later = "shop/service-4998", "shop/service-4999"
    cache.put(late, b"new")
    cache.put(told_first, b"newer")
    cache.put("shop/born", b"now")
    cache.remove(later)
    rest = list(told(stream))
    bodies = {r.name: r.resource.value for response in rest for r in response.resources}
    assert bodies[late] == b"new" and bodies[told_first] == b"newer" and bodies["shop/born"] == b"now"
    assert later not in bodies and not any(response.removed_resources for response in rest)
    assert len([name for response in rest for name in names_of(response)]) == len(bodies)
    assert bodies.keys() | set(names_of(first)) == cache.names()


def test_steady_change_does_not_keep_the_rest_from_being_told() -> None:
    cache = filled(1_000)
    stream = stream_of(cache, first=4_096)
    heard: set[str] = set()
    for turn in range(200):
        for number in range(100):
            cache.put(f"shop/service-{number}", f"{turn} {'x' * 100}".encode())
        for payload in stream.next(float(2 * turn)):
            heard.update(names_of(answer(stream, payload, 2 * turn + 1.5)))
    assert heard == cache.names()


def test_who_comes_back_is_told_the_differences_only_whatever_has_changed_since_the_names_were_listed() -> None:
    cache = filled()
    known = {resource.name: resource.version for resource in cache}
    list(told(stream_of(cache)))
    for number in range(50):
        cache.put(f"shop/service-{number}", b"other")
        cache.remove(f"shop/service-{4_000 + number}")
    (response,) = told(stream_of(cache, known=known))
    assert sorted(names_of(response)) == sorted(f"shop/service-{number}" for number in range(50))
    assert len(response.removed_resources) == 50


def test_who_gives_up_the_wildcard_between_two_parts_is_told_no_more() -> None:
    stream = stream_of(filled())
    payload = stream.next()[0]
    stream.receive(Request(type_url=TYPE, resource_names_unsubscribe=["*"]))
    answer(stream, payload)
    assert not [name for response in told(stream) for name in names_of(response)]


def test_a_response_is_made_when_the_one_before_it_was_taken() -> None:
    other = "type.googleapis.com/test.Other"
    caches = {TYPE: filled(1), other: ResourceCache(other)}
    caches[other].put("thing", b"old")
    caches[other].mark_synced()
    stream = PublisherStream(caches)
    for type_url in caches:
        stream.receive(Request(type_url=type_url, resource_names_subscribe=["*"]))
    responses = stream.one_by_one()
    next(responses)
    caches[other].put("thing", b"new")
    assert Response.FromString(next(responses)).resources[0].resource.value == b"new"
