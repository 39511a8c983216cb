"""Changes that are told ahead of their turn, while the peer has not answered the last response of their type."""

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_sync import WILDCARD, SubscriberStream
from isthmus_sync.publisher import PATIENCE
from isthmus_sync.wire import AHEAD, TELL_AHEAD, Response
from unit.sync.playbook import RED, Play, gone, told

LATE = PATIENCE * 2


def waiting(play: Play, *, wants_ahead: bool = True) -> Response:
    """A peer that has a=1 and b=1 and has not answered a=2 yet."""
    play.put(a="1", b="1")
    subscriber = SubscriberStream({RED: {WILDCARD}}, ahead={RED} if wants_ahead else ())
    for request in subscriber.connect():
        play.stream.receive(request)
    play.acks(play.hears_one())
    play.put(a="2")
    return play.hears_one()


def hears_at(play: Play, now: float) -> list[Response]:
    return [Response.FromString(payload) for payload in play.stream.next(now)]


def test_changes_behind_an_answer_that_does_not_come_are_told_ahead_and_again_in_their_turn() -> None:
    play = Play()
    unanswered = waiting(play)
    play.put(b="2")
    assert hears_at(play, PATIENCE / 2) == [], "an answer is given a moment"
    assert play.stream.ahead_at(PATIENCE / 2) == PATIENCE
    (ahead,) = hears_at(play, LATE)
    assert (told(ahead), ahead.nonce, ahead.system_version_info) == ({"b": "2"}, "", AHEAD)
    assert hears_at(play, LATE) == [] and play.stream.ahead_at(LATE) is None
    play.put(a="3", b="3")
    assert told(hears_at(play, LATE)[0]) == {"a": "3", "b": "3"}
    play.acks(unanswered)
    in_turn = play.hears_one()
    assert told(in_turn) == {"a": "3", "b": "3"} and in_turn.nonce


def test_what_goes_back_to_what_the_peer_has_comes_in_its_turn_all_the_same() -> None:
    play = Play()
    unanswered = waiting(play)
    play.put(a="3")
    hears_at(play, LATE)
    play.put(a="2")
    play.acks(unanswered)
    assert told(play.hears_one()) == {"a": "2"}


def test_nothing_comes_into_being_or_goes_ahead_of_its_turn() -> None:
    play = Play()
    unanswered = waiting(play)
    play.put(b="2", c="1")
    assert told(hears_at(play, LATE)[0]) == {"b": "2"}
    play.remove("b")
    assert hears_at(play, LATE) == []
    play.acks(unanswered)
    in_turn = play.hears_one()
    assert told(in_turn) == {"c": "1"} and gone(in_turn) == {"b"}


def test_a_peer_that_does_not_ask_for_it_is_told_nothing_ahead() -> None:
    play = Play()
    waiting(play, wants_ahead=False)
    play.put(b="2")
    assert hears_at(play, LATE) == [] and play.stream.ahead_at(0.0) is None


def test_a_subscriber_takes_what_is_told_ahead_only_where_it_asked_for_that() -> None:
    ahead = Response(type_url=RED, system_version_info=AHEAD)
    ahead.resources.add(name="a", version="1").resource.type_url = RED
    stream = SubscriberStream({RED: {WILDCARD}}, ahead={RED})
    (request,) = stream.connect()
    assert list(request.node.client_features) == [TELL_AHEAD]
    assert stream.receive(ahead).ahead
    with pytest.raises(InvalidInput, match="without a nonce"):
        SubscriberStream({RED: {WILDCARD}}).receive(ahead)
