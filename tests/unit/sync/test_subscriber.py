"""The subscribing side, rule by rule."""

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from isthmus_core.errors import InvalidInput
from isthmus_sync import WILDCARD, Changed, SubscriberStream
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.wire import MORE, Request, Response

RED, GREEN = "type/red", "type/green"


def response(
    nonce: str = "1", removed: tuple[str, ...] = (), label: str = "", kind: str = RED, **bodies: str
) -> Response:
    answer = Response(type_url=RED, nonce=nonce, removed_resources=removed, system_version_info=label)
    for name, body in bodies.items():
        resource = answer.resources.add(name=name, version=f"v{body}")
        resource.resource.type_url = kind
        resource.resource.value = body.encode()
    return answer


def reasons(request: Request) -> dict[str, str]:
    found = {}
    for detail in request.error_detail.details:
        error = pb.ResourceError()
        assert detail.Unpack(error)
        found[error.name] = error.reason
    return found


def test_the_first_requests_subscribe_to_every_type() -> None:
    stream = SubscriberStream({RED: {WILDCARD}, GREEN: {"a"}})
    red, green = stream.connect()
    assert list(red.resource_names_subscribe) == ["*"] and list(green.resource_names_subscribe) == ["a"]
    assert not red.initial_resource_versions


def test_an_applied_update_is_acknowledged_with_its_nonce_and_remembered() -> None:
    stream = SubscriberStream({RED: {WILDCARD}})
    update = stream.receive(response(nonce="7", a="1"))
    assert update.changed == {"a": Changed("v1", b"1")}
    assert stream.known(RED) == {}, "nothing is known before it was applied"
    ack = stream.answer(update)
    assert ack.response_nonce == "7" and not ack.HasField("error_detail")
    assert stream.known(RED) == {"a": "v1"}


def test_a_reconnect_tells_what_is_known() -> None:
    stream = SubscriberStream({RED: {WILDCARD}}, known={RED: {"stored": ""}})
    stream.answer(stream.receive(response(a="1", b="1")))
    stream.answer(stream.receive(response(removed=("b",))))
    (request,) = stream.connect()
    assert dict(request.initial_resource_versions) == {"stored": "", "a": "v1"}


def test_a_refused_resource_is_named_and_stays_as_it_was() -> None:
    stream = SubscriberStream({RED: {WILDCARD}})
    stream.answer(stream.receive(response(a="1", b="1")))
    nack = stream.answer(stream.receive(response(a="2", b="2")), {"a": "its port is missing"})
    assert reasons(nack) == {"a": "its port is missing"}
    assert "a: its port is missing" in nack.error_detail.message
    assert stream.known(RED) == {"a": "v1", "b": "v2"}


def test_a_refused_removal_stays_known() -> None:
    stream = SubscriberStream({RED: {WILDCARD}})
    stream.answer(stream.receive(response(a="1")))
    stream.answer(stream.receive(response(removed=("a",))), {"a": "still in use"})
    assert stream.known(RED) == {"a": "v1"}


def test_a_resource_of_the_wrong_type_is_quarantined_and_the_rest_goes_on() -> None:
    stream = SubscriberStream({RED: {WILDCARD}})
    mixed = response(good="1")
    mixed.resources.add(name="odd", version="1").resource.type_url = GREEN
    update = stream.receive(mixed)
    assert set(update.changed) == {"good"}
    assert reasons(stream.answer(update)) == {"odd": "its type is 'type/green'"}
    assert stream.synced(RED)


def test_synced_means_that_a_whole_answer_was_applied() -> None:
    stream = SubscriberStream({RED: {WILDCARD}})
    part = stream.receive(response(label=MORE, a="1"))
    assert not part.last
    stream.answer(part)
    assert not stream.all_synced
    rest = stream.receive(response(b="1"))
    assert rest.last and not stream.synced(RED)
    stream.answer(rest)
    assert stream.synced(RED) and stream.all_synced


def test_names_are_synced_when_each_was_told() -> None:
    stream = SubscriberStream({RED: {"a", "b"}})
    stream.answer(stream.receive(response(a="1")))
    assert not stream.synced(RED)
    stream.answer(stream.receive(response(removed=("b",))))
    assert stream.synced(RED)


def test_a_name_that_is_known_with_its_version_is_not_awaited_after_a_reconnect() -> None:
    stream = SubscriberStream({RED: {"a", "b"}}, known={RED: {"a": "v1", "b": ""}})
    stream.connect()
    assert not stream.synced(RED)
    stream.answer(stream.receive(response(b="1")))
    assert stream.synced(RED)


def test_resources_that_nobody_asked_for_are_ignored() -> None:
    stream = SubscriberStream({RED: {"a"}})
    assert set(stream.receive(response(a="1", other="1")).changed) == {"a"}


def test_unsubscribed_names_are_forgotten() -> None:
    stream = SubscriberStream({RED: {"a", "b"}})
    stream.answer(stream.receive(response(a="1", b="1")))
    request = stream.change(RED, subscribe=["c"], unsubscribe=["a"])
    assert list(request.resource_names_subscribe) == ["c"] and list(request.resource_names_unsubscribe) == ["a"]
    assert stream.known(RED) == {"b": "v1"}
    assert not stream.synced(RED)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Response(type_url=GREEN, nonce="1"), "nobody asked for"),
        (Response(type_url=RED), "without a nonce"),
        (Response(type_url=RED, nonce="1", resources=[discovery_pb2.Resource(version="1")]), "or not at all"),
        (response(removed=("a",), a="1"), "twice"),
    ],
)
def test_a_broken_response_ends_the_stream_with_a_sentence(broken: Response, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        SubscriberStream({RED: {WILDCARD}}).receive(broken)


def test_a_name_that_comes_twice_ends_the_stream() -> None:
    twice = response(a="1")
    twice.resources.append(twice.resources[0])
    with pytest.raises(InvalidInput, match="twice"):
        SubscriberStream({RED: {WILDCARD}}).receive(twice)
