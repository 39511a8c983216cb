"""Decide how long a service's idempotent request waits before it is sent elsewhere too, from how long answers took.

Dean and Barroso ("The Tail at Scale", 2013) send the second request after the expected 95th percentile, so that few
are sent twice. Here it is the 99th, and the delay is one of a few steps. What was hedged after 30 ms never shows how
long its first answer would have taken, but whether that took longer than 30 ms is always seen. So a step is taken when
few answers are known to be slower, and left for one from where the slow answers are seen again.

A service whose answers honestly take long must not have each of its requests sent four times; for such a one the
longest delay stays. Where somebody else answers as soon as he is asked, the service is not slow: a backend hangs, and
its check passes.
"""

import math
from collections.abc import Iterable

import msgspec

START_MS = 250
"""The delay of a service of which nothing is known."""

STEPS_MS = (30, START_MS)
LONGEST_MS = 5_000
"""The delay of a service that is slower than all steps. `resources/http.py` has a route for each delay."""

HEADROOM = 0.8
"""An answer counts as slow for a delay when it takes longer than this part of it: some jitter must not hedge."""

SOON_MS = 30
"""An answer that comes within so many milliseconds after `START_MS` is that of the second request, not of the first."""

FEW = 0.01
TOO_MANY = (0.04, 0.5)
"""A step is taken with at most so many slow answers (the 99th percentile), and left with more than so many: the last
one only by a service that mostly takes long, not by one whose backends freeze again and again."""

ENOUGH = 300
WINDOW = 500
FADING = 0.975
"""A step is taken after so many answers at least. Of older ones so many are kept, and of a busy service this part from
look to look (two a second)."""

HOLD_S = (1.5, 5.0)
"""A step is left when answers have been slow for so long: a frozen backend is out of use sooner (its check fails)."""

SPAN_S = 10.0
PATIENCE_S = 30.0
MOST_PATIENCE_S = 3600.0
"""Evidence covers the first of these; after a step was left, none is taken for the second, and each time twice as long,
until one has held for the third."""


class Answer(msgspec.Struct, frozen=True):
    """One answered request: hedged after `delay_ms`, first byte of the answer after `took_ms` (infinite: never)."""

    cluster: str
    delay_ms: int
    took_ms: float


class Hedge(msgspec.Struct, frozen=True):
    """The delay of one service, and the evidence; times are seconds of a clock that only grows."""

    delay_ms: int = START_MS
    answers: float = 0.0
    slow: tuple[float, ...] = (0.0,) * len(STEPS_MS)
    since: float = 0.0
    slow_from: float = math.inf
    slow_now: bool = False
    taken_at: float = 0.0
    calm_from: float = 0.0
    patience_s: float = PATIENCE_S


def observed(hedge: Hedge, answers: Iterable[Answer], now: float) -> Hedge:
    """The evidence with the answers since the last look; what is older fades."""
    # Answers from before a delay was given up were hedged sooner than now, and so say nothing about longer times.
    telling = [answer.took_ms for answer in answers if answer.delay_ms >= hedge.delay_ms]
    if not telling:
        return hedge
    total = hedge.answers + len(telling)
    kept = min(1.0, max(FADING, WINDOW / total))
    new = [sum(_slow(took, step) for took in telling) for step in STEPS_MS]
    slow = tuple(kept * (before + more) for before, more in zip(hedge.slow, new, strict=True))
    hedge = msgspec.structs.replace(hedge, answers=kept * total, slow=slow, since=hedge.since if hedge.answers else now)
    if hedge.delay_ms not in STEPS_MS:
        return hedge
    step = STEPS_MS.index(hedge.delay_ms)
    too_slow = slow[step] > TOO_MANY[step] * max(hedge.answers, WINDOW / 4)
    return msgspec.structs.replace(
        hedge,
        slow_from=min(hedge.slow_from, now) if too_slow else math.inf,
        slow_now=too_slow and new[step] > TOO_MANY[step] * len(telling),
    )


def _slow(took_ms: float, step_ms: int) -> bool:
    """Whether an answer says that a step is too short."""
    if step_ms == START_MS and step_ms <= took_ms <= step_ms + SOON_MS:
        return False
    return took_ms > step_ms * HEADROOM


def decided(hedge: Hedge, now: float) -> Hedge:
    """The delay that the evidence asks for: given up within seconds, shortened with patience."""
    if hedge.slow_now and now - hedge.slow_from >= HOLD_S[STEPS_MS.index(hedge.delay_ms)]:
        return _given_up(hedge, now)
    if hedge.answers < ENOUGH or now < max(hedge.since + SPAN_S, hedge.calm_from):
        return hedge
    for step, slow in zip(STEPS_MS, hedge.slow, strict=True):
        if step < hedge.delay_ms and slow <= FEW * hedge.answers:
            return msgspec.structs.replace(hedge, delay_ms=step, taken_at=now)
    return hedge


def _given_up(hedge: Hedge, now: float) -> Hedge:
    held = now - hedge.taken_at
    patience = PATIENCE_S if held >= MOST_PATIENCE_S else hedge.patience_s
    longer = START_MS if hedge.delay_ms < START_MS else LONGEST_MS
    return Hedge(delay_ms=longer, calm_from=now + patience, patience_s=min(2 * patience, MOST_PATIENCE_S))


MOST_SAMPLES = 100
FEW_SAMPLES = 10
ALL = 10_000


def next_sampling(of_ten_thousand: int, samples_a_second: float) -> int:
    """Of how many requests in ten thousand Envoy tells: for all services together thirty a second or so."""
    if samples_a_second > MOST_SAMPLES:
        return max(1, int(of_ten_thousand * (MOST_SAMPLES / 3) / samples_a_second))
    if samples_a_second < FEW_SAMPLES:
        return min(ALL, of_ten_thousand * 4)
    return of_ten_thousand
