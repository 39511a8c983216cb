"""Which clusters can be reached, and how long a probe of their gateways may take."""

import pytest

from isthmus_core.names import ClusterId
from isthmus_gateway.remotes import FIRST_PROBE_MS, LONGEST_PROBE_MS, LOOKS_BEFORE_MORE, Remotes

EAST = ClusterId("east")
ONE, TWO = ("192.0.2.1", 15443), ("192.0.2.2", 15443)


def looked_at(*, healthy: bool) -> Remotes:
    remotes = Remotes()
    remotes.note(EAST, *ONE, healthy)
    return remotes


def test_a_cluster_is_unreachable_when_all_of_its_gateways_are_dead() -> None:
    remotes = looked_at(healthy=False)
    assert remotes.unreachable(EAST) and not remotes.unreachable(ClusterId("west"))
    remotes.note(EAST, *TWO, True)
    assert not remotes.unreachable(EAST)


@pytest.mark.parametrize(("round_trip", "probe"), [(0.2, 250), (62.0, 250), (70.0, 500), (200.0, 1000), (900.0, 2000)])
def test_a_probe_gets_the_time_that_the_distance_asks_for(round_trip: float, probe: int) -> None:
    remotes = looked_at(healthy=False)
    assert bool(remotes.patience({EAST: round_trip})) == (probe > FIRST_PROBE_MS)
    assert remotes.probe_ms(EAST) == probe


def test_a_cluster_that_is_down_when_it_is_first_looked_at_is_probed_quickly_all_the_same() -> None:
    remotes = looked_at(healthy=False)
    assert remotes.doubtful() == {EAST: (ONE,)}
    for _ in range(20):
        assert remotes.patience({}) == []
    assert remotes.probe_ms(EAST) == FIRST_PROBE_MS


def test_a_gateway_behind_a_proxy_gets_more_time_after_a_while() -> None:
    remotes = looked_at(healthy=False)
    assert remotes.patience({EAST: 0.1}) == remotes.patience({EAST: 0.1}) == []
    assert remotes.patience({EAST: 0.1}) == [EAST]
    assert remotes.patience({EAST: 0.1}) == remotes.patience({EAST: 0.1}) == []
    assert remotes.patience({EAST: 0.1}) == [EAST] and remotes.probe_ms(EAST) == 4 * FIRST_PROBE_MS
    for _ in range(20):
        remotes.patience({EAST: 0.1})
    assert remotes.probe_ms(EAST) == LONGEST_PROBE_MS


def test_a_cluster_that_was_reached_gets_more_time_only_when_the_way_has_become_longer() -> None:
    remotes = looked_at(healthy=True)
    assert remotes.doubtful() == {} and remotes.patience({EAST: 500.0}) == []
    remotes.note(EAST, *ONE, False)
    for _ in range(20):  # frozen, or being started: its kernel accepts connections
        assert remotes.patience({EAST: 0.1}) == []
    assert remotes.patience({EAST: 100.0}) == [EAST]
    assert remotes.probe_ms(EAST) == 500


def test_a_cluster_that_is_gone_is_forgotten() -> None:
    remotes = looked_at(healthy=False)
    remotes.patience({EAST: 500.0})
    remotes.retain(EAST, None)
    assert remotes.doubtful() == {} and remotes.probe_ms(EAST) == FIRST_PROBE_MS


def test_a_cluster_that_left_and_came_back_was_never_reached() -> None:
    remotes = looked_at(healthy=True)
    remotes.retain(EAST, None)
    remotes.note(EAST, *ONE, False)
    grown = [remotes.patience({EAST: 0.1}) for _ in range(LOOKS_BEFORE_MORE)]
    assert grown[-1] == [EAST], "looking in vain counts again"
