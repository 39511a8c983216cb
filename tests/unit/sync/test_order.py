"""Which type goes before which, what waits for what, and answers in parts (DESIGN "The sync protocol")."""

import pytest

from isthmus_sync.order import ENVOY, FEDERATION, ZONE, Order
from unit.sync.playbook import GREEN, RED, Play, connected, gone, is_part, told


@pytest.mark.parametrize("order", [ENVOY, FEDERATION, ZONE], ids=["envoy", "federation", "zone"])
def test_what_can_be_added_can_be_removed(order: Order) -> None:
    assert sorted(order.additions) == sorted(order.removals)


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
