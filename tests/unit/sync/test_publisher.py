"""What the publishing side tells whom, rule by rule (xds_protocol; DESIGN "The sync protocol")."""

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_sync import Acked, Unserved
from unit.sync.playbook import GREEN, RED, Play, connected, gone, is_part, told


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


def test_what_came_and_went_is_not_mentioned_either_when_everything_is_asked_for_again() -> None:
    play = Play()
    play.says(subscribe=["*"])
    response = play.hears_one()
    play.put(a="1")
    assert play.hears_nothing()  # it waits for the answer
    play.says(subscribe=["*"])
    play.remove("a")
    play.acks(response)
    assert not gone(play.hears_one())


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


def test_who_asks_in_the_middle_of_a_round_is_not_told_that_there_is_nothing() -> None:
    play = Play()
    play.put(a="1")
    play.put(GREEN, b="1")
    play.says(subscribe=["*"], has={"gone": "1"})
    round_one = play.stream.one_by_one()
    next(round_one)  # while red is being written, green is asked for
    play.says(GREEN, subscribe=["*"], has={"gone": "1"})
    assert list(round_one) == [], "nothing of green was compared yet"
    (green,) = play.hears()
    assert told(green) == {"b": "1"} and gone(green) == {"gone"} and not is_part(green)
