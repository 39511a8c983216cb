"""What Envoy's runtime is told about hedging, and what is read back from it."""

from collections.abc import Mapping

import pytest

from isthmus_core.errors import Unavailable
from isthmus_gateway.hedges import MOST_HEDGED, Hedges
from isthmus_gateway.hedging import LONGEST_MS, START_MS, Answer
from isthmus_gateway.resources.names import SAMPLE_KEY, hedge_key, parse_hedge_key

ECHO = "service/shop/echo/80"


class Envoy:
    """A runtime that keeps what it is told."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.calls = 0
        self.away = False

    async def runtime(self) -> dict[str, str]:
        if self.away:
            raise Unavailable("away")
        return dict(self.keys)

    async def set_runtime(self, values: Mapping[str, str]) -> None:
        if self.away:
            raise Unavailable("away")
        self.calls += 1
        self.keys |= values
        self.keys = {key: value for key, value in self.keys.items() if value}

    @property
    def hedged(self) -> set[str]:
        return {key for key in self.keys if key != SAMPLE_KEY}


class Gateway:
    """Hedges with a clock, an Envoy, and Envoy clusters that exist."""

    def __init__(self, envoy: Envoy | None = None) -> None:
        self.envoy = envoy or Envoy()
        self.now = 0.0
        self.existing = {ECHO}
        self.hedges = Hedges(self.envoy, lambda name: name in self.existing, lambda: self.now)

    async def hear(self, seconds: float, took_ms: float = 1.0, each: int = 50, only: str = "") -> None:
        for _ in range(int(2 * seconds)):
            self.now += 0.5
            for cluster in {only} if only else self.existing:
                delay = self.hedges.delay_ms(cluster)
                self.hedges.take([Answer(cluster, delay, took_ms)] * each)
            await self.hedges.look()


@pytest.mark.anyio
async def test_envoy_is_told_once_when_a_delay_changes() -> None:
    gateway = Gateway()
    await gateway.hear(8)
    told = gateway.envoy.calls
    assert gateway.envoy.hedged == set()
    await gateway.hear(60)
    assert gateway.envoy.hedged == {hedge_key(ECHO, 30)} and gateway.envoy.calls == told + 1
    await gateway.hear(3, took_ms=60.0)
    assert gateway.envoy.hedged == set() and gateway.hedges.delays == {START_MS: 1}


@pytest.mark.anyio
async def test_a_slow_service_is_told_before_quick_ones() -> None:
    gateway = Gateway()
    gateway.existing = {f"service/shop/s{number:05}/80" for number in range(MOST_HEDGED)}
    await gateway.hear(12)
    slow = "service/shop/z/80"
    gateway.existing.add(slow)
    await gateway.hear(10, took_ms=1000.0, only=slow)
    assert hedge_key(slow, LONGEST_MS) in gateway.envoy.hedged and len(gateway.envoy.hedged) == MOST_HEDGED


@pytest.mark.anyio
async def test_an_agent_goes_on_with_what_an_earlier_one_told_envoy() -> None:
    first = Gateway()
    await first.hear(20)
    second = Gateway(first.envoy)
    await second.hedges.look()
    assert second.hedges.delay_ms(ECHO) == 30 and second.envoy.hedged == {hedge_key(ECHO, 30)}
    await second.hear(5, took_ms=60.0)
    assert second.envoy.hedged == set()


@pytest.mark.anyio
async def test_another_envoy_is_told_what_is_known() -> None:
    gateway = Gateway()
    await gateway.hear(20)
    gateway.envoy.keys.clear()
    gateway.hedges.ask_again()
    await gateway.hedges.look()
    assert gateway.envoy.hedged == {hedge_key(ECHO, 30)}


@pytest.mark.anyio
async def test_a_service_that_is_gone_leaves_nothing_behind() -> None:
    gateway = Gateway()
    await gateway.hear(20)
    gateway.existing.clear()
    await gateway.hedges.look()
    assert gateway.envoy.hedged == set() and not gateway.hedges.delays


@pytest.mark.anyio
async def test_an_envoy_that_is_away_is_told_later() -> None:
    gateway = Gateway()
    await gateway.hear(9)
    gateway.envoy.away = True
    gateway.hedges.take([Answer(ECHO, START_MS, 1.0)] * 100)
    gateway.now += 5
    with pytest.raises(Unavailable):
        await gateway.hedges.look()
    gateway.envoy.away = False
    await gateway.hedges.look()
    assert gateway.envoy.hedged == {hedge_key(ECHO, 30)}


@pytest.mark.anyio
async def test_the_keys_in_envoy_have_a_limit_and_stay_with_who_has_them() -> None:
    gateway = Gateway()
    gateway.existing = {f"service/shop/s{number:05}/80" for number in range(10, MOST_HEDGED + 10)}
    await gateway.hear(12)
    before = gateway.envoy.hedged
    gateway.existing |= {f"service/shop/s{number:05}/80" for number in range(10)}
    await gateway.hear(12)
    assert len(before) == MOST_HEDGED and gateway.envoy.hedged == before


def test_a_key_is_read_back() -> None:
    assert parse_hedge_key(hedge_key(ECHO, 30)) == (30, ECHO)
    assert parse_hedge_key(SAMPLE_KEY) is None and parse_hedge_key("isthmus.hedge.x.y") is None
