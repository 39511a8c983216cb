"""The pace of a publisher: at once when it is quiet, gathering under load, never longer than its limit."""

import pytest

from isthmus_sync.pace import Pace

SEND = 0.0005  # seconds that one response costs


def busy(pace: Pace, seconds: float, per_second: int) -> list[float]:
    """The gaps between responses while changes come steadily."""
    gaps, last, free, seen = [], 0.0, 0.0, 0
    for number in range(int(seconds * per_second)):
        now = number / per_second
        if now >= free and pace.delay(now) == 0:
            pace.gathered(number + 1 - seen)
            seen = number + 1
            free = now + SEND
            pace.sent(free)
            gaps.append(now - last)
            last = now
    return gaps


def test_the_first_change_goes_at_once() -> None:
    assert Pace().delay(5.0) == 0


def test_changes_with_room_between_them_all_go_at_once() -> None:
    pace = Pace()
    for number in range(300):
        now = number * 0.003
        assert pace.delay(now) == 0
        pace.gathered(1)
        pace.sent(now)


def test_the_window_grows_under_load_and_never_beyond_its_limit() -> None:
    gaps = busy(Pace(), 2.0, 10_000)
    assert gaps[1] < 0.005
    assert gaps[-1] == pytest.approx(0.050, abs=0.002)
    assert max(gaps) < 0.052


def test_after_a_quiet_time_the_first_change_goes_at_once_again() -> None:
    pace = Pace()
    busy(pace, 1.0, 10_000)
    assert pace.delay(1.2) == 0
    pace.gathered(1)
    pace.sent(1.2)
    assert pace.delay(1.201) == 0


def test_the_window_shrinks_by_half_when_changes_come_one_by_one_again() -> None:
    pace = Pace()
    busy(pace, 2.0, 10_000)
    for number, window in enumerate((0.025, 0.0125, 0.00625), 1):
        now = 2.0 + number * 0.06
        pace.gathered(1)
        pace.sent(now)
        assert pace.delay(now) == pytest.approx(window)
