"""What the publishing side makes of a NACK: what is refused is not sent again, and the rest goes on."""

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import status_pb2

from isthmus_sync import Nacked, Order, Rejection
from isthmus_sync.wire import Request
from unit.sync.playbook import ORDER, RED, Play, connected, gone, told


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


def test_a_refused_resource_that_went_and_came_back_is_tried_again() -> None:
    play = Play()
    play.put(a="bad")
    play.says(subscribe=["*"])
    play.nacks(play.hears_one(), a="no")
    play.remove("a")
    play.acks(play.hears_one())
    play.put(a="bad")
    assert told(play.hears_one()) == {"a": "bad"}


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
