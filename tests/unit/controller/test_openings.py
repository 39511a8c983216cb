"""How many streams a cluster may have and open."""

import pytest

from isthmus_controller.openings import BURST, MAX_STREAMS, RATE, Openings
from isthmus_core.errors import Unavailable
from isthmus_core.names import ClusterId

A, B = ClusterId("a"), ClusterId("b")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_cluster_has_so_many_streams_and_one_more_for_each_that_ends() -> None:
    openings = Openings(Clock())
    for _ in range(MAX_STREAMS):
        openings.opened(A)
    with pytest.raises(Unavailable, match=f"cluster a has {MAX_STREAMS} open streams"):
        openings.opened(A)
    openings.opened(B)
    openings.closed(A)
    openings.opened(A)


def test_who_opens_again_and_again_is_slowed_down_and_nobody_else() -> None:
    clock = Clock()
    openings = Openings(clock)
    for _ in range(BURST):
        openings.opened(A)
        openings.closed(A)
    with pytest.raises(Unavailable, match="opened 256 streams, and for now no cluster may open more than 4 a second"):
        openings.opened(A)
    openings.opened(B)
    clock.now += 1 / RATE
    openings.opened(A)
    with pytest.raises(Unavailable):
        openings.opened(A)


def test_all_gateways_of_the_largest_cluster_may_come_back_at_once_and_again_after_a_minute() -> None:
    clock = Clock()
    openings = Openings(clock)
    for _ in range(3):
        for _ in range(MAX_STREAMS):
            openings.opened(A)
        with pytest.raises(Unavailable, match="open streams"):
            openings.opened(A)
        for _ in range(MAX_STREAMS):
            openings.closed(A)
        clock.now += 60


def test_time_saves_up_no_more_than_one_burst() -> None:
    clock = Clock()
    openings = Openings(clock)
    openings.opened(A)
    openings.closed(A)
    clock.now += 1e6
    for _ in range(BURST):
        openings.opened(A)
        openings.closed(A)
    with pytest.raises(Unavailable):
        openings.opened(A)
