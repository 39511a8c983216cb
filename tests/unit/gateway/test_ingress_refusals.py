"""What an operator hears of connections that the ingress refused."""

from collections.abc import Mapping

import pytest

from isthmus_core.errors import Unavailable
from isthmus_gateway.envoy.refusals import DENIED, FRESH_S, IngressRefusals
from isthmus_kit.readiness import Readiness

pytestmark = pytest.mark.anyio


class Envoy:
    """Counts what a test says."""

    def __init__(self, denied: int | None = 0) -> None:
        self.denied = denied
        self.now = 0.0
        self.readiness = Readiness()
        self.refusals = IngressRefusals(self.stats, self.readiness, lambda: self.now)

    async def stats(self, pattern: str) -> Mapping[str, int]:
        assert pattern == r"^ingress\.rbac\.denied$"
        if self.denied is None:
            raise Unavailable("Envoy does not answer")
        return {DENIED: self.denied}

    async def says(self, denied: int | None) -> str:
        self.denied = denied
        await self.refusals.look()
        return self.readiness.warnings().get("refused callers", "").partition(" refused")[0]


async def test_refusals_are_named_for_ten_minutes_and_counted_for_ever() -> None:
    envoy = Envoy()
    assert [await envoy.says(count) for count in (0, 1, 3)] == ["", "a connection was", "3 connections were"]
    envoy.now = FRESH_S
    assert await envoy.says(3) == "3 connections were"
    envoy.now += 1
    assert await envoy.says(3) == ""
    assert await envoy.says(4) == "a connection was"
    assert envoy.refusals.count == 4


async def test_an_envoy_that_begins_anew_takes_nothing_back() -> None:
    envoy = Envoy()
    for count in (0, 5, None, 0, 2):
        await envoy.says(count)
    assert envoy.refusals.count == 7


async def test_what_an_adopted_envoy_refused_before_is_counted_and_no_news() -> None:
    envoy = Envoy()
    assert await envoy.says(9) == ""
    assert envoy.refusals.count == 9
