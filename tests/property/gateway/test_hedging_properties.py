"""What holds for the delay whatever the answers are."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus_gateway.hedging import LONGEST_MS, START_MS, STEPS_MS, Answer, Hedge, decided, next_sampling, observed

CLUSTER = "service/shop/echo/80"
times = st.floats(min_value=0.0, max_value=10_000.0)
looks = st.lists(st.lists(st.tuples(times, st.integers(1, 200)), max_size=4), max_size=60)


def played(story: list[list[tuple[float, int]]], seconds: float = 5.0) -> list[Hedge]:
    """The delay after each look."""
    hedge, states = Hedge(), []
    for number, look in enumerate(story):
        answers = [Answer(CLUSTER, hedge.delay_ms, took) for took, count in look for _ in range(count)]
        hedge = decided(observed(hedge, answers, number * seconds), number * seconds)
        states.append(hedge)
    return states


@given(looks)
def test_the_delay_is_a_step_and_shrinks_only_with_evidence(story: list[list[tuple[float, int]]]) -> None:
    before = Hedge()
    for hedge in played(story):
        assert hedge.delay_ms in (*STEPS_MS, LONGEST_MS)
        assert all(0 <= slow <= hedge.answers + 1e-6 for slow in hedge.slow)
        if hedge.delay_ms > before.delay_ms:
            assert hedge.delay_ms in (START_MS, LONGEST_MS), "given up for one from where more is seen"
        before = hedge


@given(looks, st.floats(min_value=0.0, max_value=10_000.0))
def test_slower_answers_never_make_the_delay_shorter(story: list[list[tuple[float, int]]], more: float) -> None:
    answers = [took for look in story for took, count in look for _ in range(count)]

    def delay(by: float) -> int:
        seen = observed(Hedge(), [Answer(CLUSTER, START_MS, took + by) for took in answers], 0.0)
        return decided(seen, 1000.0).delay_ms

    assert delay(more) >= delay(0.0)


@settings(max_examples=25)
@given(st.lists(st.booleans(), min_size=200, max_size=800))
def test_changes_become_rare_whatever_happens(slow: list[bool]) -> None:
    states = played([[(200.0 if is_slow else 1.0, 40)] for is_slow in slow], seconds=5.0)
    changes = [n for n, (a, b) in enumerate(pairwise(states)) if a.delay_ms != b.delay_ms]
    # Each time a step is left the next one waits twice as long, until one has held for an hour.
    hours = len(slow) * 5.0 / 3600
    assert len(changes) <= 2 * (8 + 8 * hours)


@given(st.integers(1, 10_000), st.floats(min_value=0.0, max_value=1e6))
def test_the_sample_stays_within_its_bounds(before: int, rate: float) -> None:
    assert 1 <= next_sampling(before, rate) <= 10_000
