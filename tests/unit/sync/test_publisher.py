"""The publishing side, rule by rule (xds_protocol; DESIGN "The sync protocol")."""

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import status_pb2

from isthmus_core.errors import InvalidInput
from isthmus_sync import Acked, Nacked, Order, Rejection, Unserved
from isthmus_sync.wire import Request
from unit.sync.playbook import GREEN, ORDER, RED, Play, gone, is_part, told


def connected(play: Play, *types: str) -> None:
    """Subscribe to everything and acknowledge it."""
    for type_url in types or (RED,):
        play.says(type_url, subscribe=["*"])
    for response in play.hears():
        play.acks(response)


def test_a_response_carries_name_version_type_and_body() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["a"])
    response = play.hears_one()
    (resource,) = response.resources
    assert (resource.name, resource.version) == ("a", "1")
    assert (resource.resource.type_url, resource.resource.value) == (RED, b"1")
    assert response.type_url == RED and response.nonce


def test_an_unsynced_cache_is_never_answered_from() -> None:
    play = Play(synced=False)
    play.put(a="1")
    play.says(subscribe=["*"])
    play.says(GREEN, subscribe=["x"])
    assert play.hears_nothing()
    play.sync()
    red, green = play.hears()
    assert told(red) == {"a": "1"}
    assert gone(green) == {"x"}


def test_a_wildcard_on_an_empty_cache_is_answered_with_an_empty_response() -> None:
    play = Play()
    play.says(subscribe=["*"])
    response = play.hears_one()
    assert not response.resources and not response.removed_resources and not is_part(response)
    play.acks(response)
    assert play.hears_nothing()


def test_a_first_request_without_names_is_the_legacy_wildcard() -> None:
    play = Play()
    play.put(a="1", b="2")
    play.says()
    assert told(play.hears_one()) == {"a": "1", "b": "2"}


def test_the_legacy_wildcard_goes_on_beside_explicit_names() -> None:
    play = Play()
    play.says()
    play.acks(play.hears_one())
    play.says(subscribe=["a"])
    play.acks(play.hears_one())
    play.put(b="2")
    assert told(play.hears_one()) == {"b": "2"}


def test_after_explicit_names_an_empty_request_is_no_wildcard() -> None:
    play = Play()
    play.put(a="1", b="2")
    play.says(subscribe=["a"])
    play.acks(play.hears_one())
    play.says()
    assert play.hears_nothing()


def test_a_bare_ack_is_not_answered() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["*"])
    assert play.acks(play.hears_one()) == Acked(RED, {"a": "1"}, ())
    assert play.hears_nothing()


def test_every_name_subscribed_to_is_answered_even_when_it_is_current() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["a"])
    play.acks(play.hears_one())
    play.says(subscribe=["a"])
    assert told(play.hears_one()) == {"a": "1"}


def test_an_unknown_name_is_removed_now_and_pushed_when_it_is_created() -> None:
    play = Play()
    play.says(subscribe=["a"])
    response = play.hears_one()
    assert gone(response) == {"a"} and not response.resources
    play.acks(response)
    play.put(a="1")
    assert told(play.hears_one()) == {"a": "1"}


def test_subscription_changes_count_even_with_a_stale_nonce() -> None:
    play = Play()
    play.put(a="1", b="2")
    play.says(subscribe=["a"])
    response = play.hears_one()
    assert play.says(subscribe=["b"], unsubscribe=["a"], nonce="of another stream") is None
    play.put(a="changed")
    play.acks(response)
    assert told(play.hears_one()) == {"b": "2"}


def test_a_stale_ack_does_not_settle_what_is_in_flight() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["*"])
    first = play.hears_one()
    play.acks(first)
    play.put(a="2")
    second = play.hears_one()
    play.put(a="3")
    assert play.acks(first) is None
    assert play.hears_nothing()
    play.acks(second)
    assert told(play.hears_one()) == {"a": "3"}


def test_nonces_differ_within_a_stream() -> None:
    play = Play()
    play.says(subscribe=["*"])
    play.says(GREEN, subscribe=["*"])
    red, green = play.hears()
    assert red.nonce != green.nonce


def test_at_most_one_response_of_a_type_is_in_flight_and_the_newest_state_wins() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["*"])
    first = play.hears_one()
    play.put(a="2")
    assert play.hears_nothing()
    play.put(a="3", b="1")
    assert play.hears_nothing()
    play.acks(first)
    assert told(play.hears_one()) == {"a": "3", "b": "1"}


@pytest.mark.parametrize("name", ["*", "a"])
def test_a_change_that_is_taken_back_before_it_was_sent_is_not_sent(name: str) -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=[name])
    first = play.hears_one()
    play.put(a="2")
    assert play.hears_nothing()
    play.put(a="1")
    play.acks(first)
    assert play.hears_nothing()


def test_who_comes_back_gets_what_differs_and_loses_what_vanished() -> None:
    play = Play()
    play.put(same="1", newer="2", new="1")
    play.says(subscribe=["*"], has={"same": "1", "newer": "1", "vanished": "1"})
    response = play.hears_one()
    assert told(response) == {"newer": "2", "new": "1"}
    assert gone(response) == {"vanished"}


def test_names_that_come_back_with_their_version_are_skipped_when_equal() -> None:
    play = Play()
    play.put(same="1", newer="2")
    play.says(subscribe=["same", "newer", "vanished"], has={"same": "1", "newer": "1", "vanished": "1"})
    response = play.hears_one()
    assert told(response) == {"newer": "2"}
    assert gone(response) == {"vanished"}


def test_a_version_that_is_not_known_is_sent_again_and_its_vanishing_is_told() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["*"], has={"a": "", "b": ""})
    response = play.hears_one()
    assert told(response) == {"a": "1"} and gone(response) == {"b"}


def test_a_removed_resource_is_announced_once() -> None:
    play = Play()
    play.put(a="1")
    connected(play)
    play.remove("a")
    response = play.hears_one()
    assert gone(response) == {"a"}
    play.acks(response)
    assert play.hears_nothing()


def test_a_resource_that_comes_back_as_it_was_is_sent_again() -> None:
    play = Play()
    play.put(a="1")
    connected(play)
    play.remove("a")
    play.acks(play.hears_one())
    play.put(a="1")
    assert told(play.hears_one()) == {"a": "1"}


def test_a_resource_removed_while_it_is_in_flight_is_announced_after_the_answer() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["*"])
    first = play.hears_one()
    play.remove("a")
    assert play.hears_nothing()
    play.acks(first)
    assert gone(play.hears_one()) == {"a"}


def test_what_came_and_went_between_two_responses_is_not_mentioned() -> None:
    play = Play()
    connected(play)
    play.put(a="1")
    play.remove("a")
    assert play.hears_nothing()


def test_an_unsubscribed_name_is_not_sent_any_more() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["a"])
    play.acks(play.hears_one())
    play.says(unsubscribe=["a"])
    play.put(a="2")
    play.remove("a")
    assert play.hears_nothing()


def test_unsubscribing_from_the_wildcard_leaves_the_explicit_names() -> None:
    play = Play()
    play.put(a="1", b="1")
    play.says(subscribe=["*", "a"])
    play.acks(play.hears_one())
    play.says(unsubscribe=["*"])
    play.put(a="2", b="2")
    assert told(play.hears_one()) == {"a": "2"}


def test_unsubscribing_from_a_name_under_a_wildcard_is_answered() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["*", "a", "x"])
    play.acks(play.hears_one())
    play.says(unsubscribe=["a", "x"])
    response = play.hears_one()
    assert told(response) == {"a": "1"} and gone(response) == {"x"}


def test_who_gave_up_the_wildcard_and_asks_for_it_again_gets_everything_again() -> None:
    play = Play()
    play.put(a="1", b="1")
    connected(play)
    play.says(unsubscribe=["*"])
    play.remove("b")
    assert play.hears_nothing()
    play.says(subscribe=["*"])
    response = play.hears_one()
    assert told(response) == {"a": "1"} and not gone(response)


def test_a_refusal_of_something_unsubscribed_meanwhile_is_forgotten_with_it() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["*"])
    response = play.hears_one()
    play.says(unsubscribe=["*"])
    play.nacks(response, a="no")
    play.says(subscribe=["*"])
    assert told(play.hears_one()) == {"a": "1"}


def test_asking_again_for_the_wildcard_resends_nothing() -> None:
    play = Play()
    play.put(a="1")
    connected(play)
    play.says(subscribe=["*"])
    response = play.hears_one()
    assert not response.resources


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_nack_is_an_error_detail_and_nothing_else() -> None:
    play = Play()
    play.put(a="1")
    play.says(subscribe=["*"])
    response = play.hears_one()
    empty_detail = Request(type_url=RED, response_nonce=response.nonce, error_detail=status_pb2.Status())
    assert isinstance(play.stream.receive(empty_detail), Nacked)


def test_a_refused_version_is_not_sent_again_and_a_new_one_is() -> None:
    play = Play()
    play.put(a="bad")
    play.says(subscribe=["*"])
    assert play.nacks(play.hears_one(), "a is bad").rejected == {"a": Rejection("bad", "a is bad")}
    assert play.hears_nothing()
    play.put(b="1")
    response = play.hears_one()
    assert told(response) == {"b": "1"}
    play.acks(response)
    play.put(a="good")
    assert told(play.hears_one()) == {"a": "good"}


def test_a_partial_nack_refuses_the_named_resources_only() -> None:
    play = Play()
    play.put(a="1", b="1", c="1")
    play.says(subscribe=["*"])
    outcome = play.nacks(play.hears_one(), b="port 70000 is out of range")
    assert outcome.rejected == {"b": Rejection("1", "port 70000 is out of range")}
    assert outcome.accepted == {"a": "1", "c": "1"}
    assert play.hears_nothing()


def test_going_back_to_what_the_peer_kept_after_a_partial_nack_sends_nothing() -> None:
    play = Play()
    play.put(a="1")
    connected(play)
    play.put(a="bad")
    play.nacks(play.hears_one(), a="no")
    play.put(a="1")
    assert play.hears_nothing()
    play.put(a="bad")
    assert play.hears_nothing()


def test_going_back_after_a_nack_without_names_is_sent_because_it_may_have_been_applied_in_part() -> None:
    play = Play()
    play.put(a="1")
    connected(play)
    play.put(a="bad")
    play.nacks(play.hears_one())
    play.put(a="1")
    assert told(play.hears_one()) == {"a": "1"}


def test_a_refused_version_stays_refused_after_another_one_was_accepted() -> None:
    play = Play()
    play.put(a="bad")
    play.says(subscribe=["*"])
    play.nacks(play.hears_one(), a="no")
    play.put(a="good")
    play.acks(play.hears_one())
    play.put(a="bad")
    assert play.hears_nothing()


def test_a_version_that_was_taken_at_the_second_try_is_refused_no_more() -> None:
    play = Play()
    play.put(a="odd")
    play.says(subscribe=["a"])
    play.nacks(play.hears_one(), a="not now")
    play.says(subscribe=["a"])
    play.acks(play.hears_one())
    for version in ("even", "odd"):
        play.put(a=version)
        response = play.hears_one()
        assert told(response) == {"a": version}
        play.acks(response)


def test_the_removal_of_a_refused_resource_is_announced() -> None:
    play = Play()
    play.put(a="bad")
    play.says(subscribe=["*"])
    play.nacks(play.hears_one(), a="no")
    play.remove("a")
    assert gone(play.hears_one()) == {"a"}


def test_asking_for_a_refused_resource_is_answered() -> None:
    play = Play()
    play.put(a="bad")
    play.says(subscribe=["a"])
    play.nacks(play.hears_one(), a="no")
    play.says(subscribe=["a"])
    assert told(play.hears_one()) == {"a": "bad"}


def test_details_that_are_no_resource_errors_count_as_a_nack_without_names() -> None:
    play = Play()
    play.put(a="1", b="1")
    play.says(subscribe=["*"])
    response = play.hears_one()
    status = status_pb2.Status(message="broken")
    status.details.append(AnyMessage(type_url="type.googleapis.com/other.Detail", value=b"\xff"))
    status.details.append(AnyMessage(type_url="type.googleapis.com/isthmus.v1.ResourceError", value=b"\xff"))
    outcome = play.stream.receive(Request(type_url=RED, response_nonce=response.nonce, error_detail=status))
    assert isinstance(outcome, Nacked)
    assert outcome.rejected == {"a": Rejection("1", "broken"), "b": Rejection("1", "broken")}


def test_without_isolation_a_nack_without_names_refuses_the_whole_response() -> None:
    play = Play()
    play.put(a="1", b="1")
    play.says(subscribe=["*"])
    assert set(play.nacks(play.hears_one()).rejected) == {"a", "b"}
    assert play.hears_nothing()


def test_with_isolation_halves_find_the_guilty_resource_and_the_rest_goes_on() -> None:
    play = Play(Order(ORDER.additions, ORDER.removals, isolate=True))
    play.put(a="1", b="1", bad="1", d="1")
    play.says(subscribe=["*"])
    guilty: set[str] = set()
    accepted: set[str] = set()
    while responses := play.hears():
        (response,) = responses
        if "bad" in told(response):
            guilty |= set(play.nacks(response).rejected)
        else:
            play.acks(response)
            accepted |= set(told(response))
    assert guilty == {"bad"} and accepted == {"a", "b", "d"}


def test_with_isolation_a_changed_suspect_goes_as_a_change() -> None:
    play = Play(Order(ORDER.additions, ORDER.removals, isolate=True))
    play.put(a="1", b="1")
    play.says(subscribe=["*"])
    assert play.nacks(play.hears_one()).suspects == ("a", "b")
    play.put(a="2")
    play.remove("b")
    response = play.hears_one()
    assert told(response) == {"a": "2"} and gone(response) == {"b"}


def test_with_isolation_a_removal_in_a_refused_response_is_announced_again() -> None:
    play = Play(Order(ORDER.additions, ORDER.removals, isolate=True))
    play.put(old="1")
    connected(play)
    play.put(a="1", b="1")
    play.remove("old")
    response = play.hears_one()
    assert gone(response) == {"old"}
    play.nacks(response)
    removed: set[str] = set()
    while responses := play.hears():
        removed |= gone(responses[0])
        play.acks(responses[0])
    assert removed == {"old"}


# -- order ------------------------------------------------------------------------------------------------------------


def test_types_go_in_order_whoever_asked_first() -> None:
    play = Play()
    play.put(RED, a="1")
    play.put(GREEN, x="1")
    play.says(GREEN, subscribe=["*"])
    play.says(RED, subscribe=["*"])
    assert [response.type_url for response in play.hears()] == [RED, GREEN]


def test_an_addition_waits_for_the_unsent_additions_before_it() -> None:
    play = Play()
    connected(play, RED, GREEN)
    play.put(RED, a="1")
    red = play.hears_one()
    play.put(RED, b="1")
    play.put(GREEN, refers_to_b="1")
    assert play.hears_nothing()  # red is in flight, so b cannot go, so what refers to b must not go either
    play.acks(red)
    assert [told(response) for response in play.hears()] == [{"b": "1"}, {"refers_to_b": "1"}]


def test_an_addition_does_not_wait_for_later_changes_of_the_types_before_it() -> None:
    play = Play()
    connected(play, RED, GREEN)
    play.put(GREEN, x="1")
    green = play.hears_one()
    play.put(GREEN, y="1")
    assert play.hears_nothing()
    play.put(RED, a="1")
    red = play.hears_one()
    play.put(RED, b="1")
    assert play.hears_nothing()
    play.acks(green)
    assert told(play.hears_one()) == {"y": "1"}  # y is older than b
    play.acks(red)


def test_a_removal_waits_until_what_referred_to_it_is_acknowledged() -> None:
    play = Play()
    play.put(RED, old="1")
    play.put(GREEN, referrer="old")
    connected(play, RED, GREEN)
    play.put(RED, new="1")
    play.put(GREEN, referrer="new")
    play.remove("old", type_url=RED)
    red, green = play.hears()
    assert told(red) == {"new": "1"} and not gone(red)
    play.acks(red)
    assert play.hears_nothing()
    play.acks(green)
    assert gone(play.hears_one()) == {"old"}


def test_what_refers_is_removed_before_what_it_refers_to() -> None:
    play = Play()
    play.put(RED, a="1")
    play.put(GREEN, x="a")
    connected(play, RED, GREEN)
    play.remove("a", type_url=RED)
    play.remove("x", type_url=GREEN)
    green = play.hears_one()
    assert green.type_url == GREEN and gone(green) == {"x"}
    play.acks(green)
    assert gone(play.hears_one()) == {"a"}


def test_steady_change_does_not_starve_a_removal() -> None:
    play = Play()
    play.put(RED, a="1")
    connected(play, RED, GREEN)
    play.put(GREEN, x="0")
    green = play.hears_one()
    play.remove("a")
    for turn in range(1, 4):
        play.put(GREEN, x=str(turn))
        assert all(not gone(response) for response in play.hears()) or turn > 1
        play.acks(green)
        responses = play.hears()
        if any(gone(response) == {"a"} for response in responses):
            return
        (green,) = responses
    pytest.fail("the removal never went out")


def test_a_large_answer_goes_in_parts_and_says_so() -> None:
    play = Play(limit=50)
    play.put(a="1" * 20, b="2" * 20, c="3" * 20)
    play.says(subscribe=["*"])
    parts = []
    while responses := play.hears():
        parts.extend(responses)
        play.acks(responses[0])
    assert [set(told(part)) for part in parts] == [{"a"}, {"b"}, {"c"}]
    assert [is_part(part) for part in parts] == [True, True, False]


def test_an_answer_whose_rest_was_withdrawn_is_still_completed() -> None:
    play = Play(limit=50)
    play.put(a="1" * 20, b="2" * 20)
    play.says(subscribe=["*"])
    part = play.hears_one()
    play.remove("b")
    play.acks(part)
    rest = play.hears_one()
    assert not told(rest) and not is_part(rest)


def test_a_wildcard_whose_resources_must_wait_is_not_answered_as_empty() -> None:
    play = Play(limit=50)
    play.put(RED, a="1" * 20, b="2" * 20)
    play.put(GREEN, x="1")
    play.says(RED, subscribe=["*"])
    play.says(GREEN, subscribe=["*"])
    part = play.hears_one()  # b is still to be sent, so x waits; an empty answer would say that there is no x
    assert part.type_url == RED and is_part(part)


# -- broken peers -----------------------------------------------------------------------------------------------------


def test_a_type_that_is_not_published_is_reported_and_not_answered() -> None:
    play = Play()
    assert play.says("type/blue", subscribe=["*"]) == Unserved("type/blue")
    assert play.hears_nothing()


def test_a_request_without_a_type_ends_the_stream() -> None:
    with pytest.raises(InvalidInput, match="without a type_url"):
        Play().says("")


def test_an_empty_name_ends_the_stream() -> None:
    with pytest.raises(InvalidInput, match="empty resource name"):
        Play().says(subscribe=[""])
