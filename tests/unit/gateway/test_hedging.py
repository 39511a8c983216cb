"""How soon a service's requests are hedged, from how long answers took."""

import math

from isthmus_gateway.hedging import (
    ALL,
    FADING,
    LONGEST_MS,
    MOST_PATIENCE_S,
    PATIENCE_S,
    SPAN_S,
    START_MS,
    Answer,
    Hedge,
    decided,
    next_sampling,
    observed,
)

TURN_S = 0.5


class Story:
    """A service's answers, look by look."""

    def __init__(self) -> None:
        self.hedge = Hedge()
        self.now = 1000.0
        self.changes = 0

    def turns(self, seconds: float, took_ms: list[float]) -> "Story":
        """In each look these answers came, hedged with the delay of then; infinite: of a backend that hangs."""
        for _ in range(int(seconds / TURN_S)):
            self.now += TURN_S
            # What hangs is hedged, and answered by somebody else soon after; in a slow service he is slow as well.
            seen = [self.hedge.delay_ms + 2.0 if took == math.inf else took for took in took_ms]
            answers = [Answer("service/shop/echo/80", self.hedge.delay_ms, took) for took in seen]
            before = self.hedge.delay_ms
            self.hedge = decided(observed(self.hedge, answers, self.now), self.now)
            self.changes += before != self.hedge.delay_ms
        return self


def test_nothing_is_shortened_without_evidence() -> None:
    assert Story().turns(3600, []).hedge.delay_ms == START_MS
    assert Story().turns(3600, [1.0]).hedge.delay_ms == 30
    assert Story().turns(100, [1.0]).hedge.delay_ms == START_MS, "200 answers are too few"
    assert Story().turns(SPAN_S - 1, [1.0] * 500).hedge.delay_ms == START_MS, "a good second proves nothing"


def test_the_delay_is_above_what_answers_take() -> None:
    for took, delay in (
        (1.0, 30),
        (20.0, 30),
        (25.0, 250),
        (190.0, 250),
        (1000.0, LONGEST_MS),
    ):
        assert Story().turns(60, [took] * 20).hedge.delay_ms == delay, took


def test_a_few_slow_answers_count_and_one_in_a_hundred_does_not() -> None:
    quick = [1.0] * 199
    assert Story().turns(60, [*quick, 200.0]).hedge.delay_ms == 30
    assert Story().turns(60, [*quick[:195], *[60.0] * 5]).hedge.delay_ms == 250
    assert Story().turns(60, [*quick[:195], *[200.0] * 5]).hedge.delay_ms == 250


def test_a_service_that_becomes_slow_is_hedged_late_within_seconds() -> None:
    for rate in (1, 10, 100):
        story = Story().turns(200, [1.0] * rate)
        assert story.hedge.delay_ms == 30
        assert story.turns(3 if rate > 1 else 15, [60.0] * rate).hedge.delay_ms == START_MS
        assert story.turns(700, [60.0] * rate).hedge.delay_ms == START_MS
        assert story.turns(1400, [1.0] * rate).hedge.delay_ms == 30


def test_a_service_whose_answers_honestly_take_long_is_left_alone_within_seconds() -> None:
    for rate in (2, 10, 100):
        story = Story().turns(10 if rate > 2 else 40, [1000.0] * rate)
        assert story.hedge.delay_ms == LONGEST_MS and story.changes == 1
        assert story.turns(600, [30_000.0] * rate).hedge.delay_ms == LONGEST_MS
        assert story.turns(600, [150.0] * rate).hedge.delay_ms == 250
        assert story.turns(1200, [1.0] * rate).hedge.delay_ms == 30


def test_a_backend_that_freezes_for_a_moment_changes_nothing() -> None:
    for before_s, frozen_s in ((60, 0.5), (11, 0.5), (11, 1.0)):
        story = Story().turns(before_s, [1.0] * 100)
        story.turns(frozen_s, [1.0] * 40 + [math.inf] * 60).turns(60, [1.0] * 100)
        assert story.hedge.delay_ms == 30 and story.changes == 1


def test_a_backend_that_freezes_again_and_again_changes_nothing_for_long() -> None:
    story = Story().turns(60, [1.0] * 15)
    for _ in range(30):
        story.turns(0.5, [1.0] * 6 + [math.inf] * 9).turns(6, [1.0] * 15)
    assert story.hedge.delay_ms <= START_MS


def test_a_backend_that_hangs_while_its_check_passes_is_hedged_for_ever() -> None:
    for rate in (1, 10, 100):
        story = Story().turns(200, [1.0] * rate)
        assert story.turns(3600, [math.inf] * rate).hedge.delay_ms <= START_MS
        assert Story().turns(600, [math.inf] * rate).hedge.delay_ms == START_MS


def test_a_service_that_is_slow_every_minute_is_left_alone_sooner_or_later() -> None:
    story = Story()
    for _ in range(2 * 60):
        story.turns(50, [1.0] * 20).turns(10, [200.0] * 20)
    assert story.changes <= 2 * math.log2(MOST_PATIENCE_S / PATIENCE_S) + 2 * 2


def test_answers_that_were_hedged_sooner_say_nothing() -> None:
    hedge = observed(Hedge(), [Answer("x", 30, 32.0)] * 1000, 0.0)
    assert hedge == Hedge()


def test_the_sample_follows_the_load() -> None:
    assert next_sampling(ALL, 5.0) == ALL and next_sampling(1000, 5.0) == 4000
    assert next_sampling(ALL, 15_000.0) == 22
    assert next_sampling(66, 99.0) == 66
    assert 0 < FADING < 1
