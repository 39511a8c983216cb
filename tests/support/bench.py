"""Rows of measurement: what was measured, what it should be, and what it is held against."""

import statistics
from collections.abc import Sequence
from typing import Self

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One figure. `ratio` is value / reference_value, both measured in the same run."""

    name: str
    value: float
    unit: str
    target: str = ""
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None
    ok: bool = True

    @classmethod
    def noted(cls, name: str, value: float, unit: str) -> Self:
        """A figure without a target: a floor, or something to know."""
        return cls(name, value, unit)

    @classmethod
    def at_most(cls, name: str, value: float, unit: str, limit: float) -> Self:
        return cls(name, value, unit, f"<= {limit:g} {unit}", ok=value <= limit)

    @classmethod
    def at_least(cls, name: str, value: float, unit: str, limit: float) -> Self:
        return cls(name, value, unit, f">= {limit:g} {unit}", ok=value >= limit)

    def beside(self, reference: str, reference_value: float) -> Self:
        """The same row with what else was measured in this run, to be read beside it."""
        ratio = self.value / reference_value if reference_value else None
        return msgspec.structs.replace(self, reference=reference, reference_value=reference_value, ratio=ratio)

    @classmethod
    def ratio_at_most(
        cls, name: str, value: float, unit: str, limit: float, reference: str, reference_value: float
    ) -> Self:
        ratio = value / reference_value
        return cls(name, value, unit, f"<= {limit:g}x", reference, reference_value, ratio, ratio <= limit)

    @classmethod
    def ratio_at_least(
        cls, name: str, value: float, unit: str, limit: float, reference: str, reference_value: float
    ) -> Self:
        ratio = value / reference_value
        return cls(name, value, unit, f">= {limit:g}x", reference, reference_value, ratio, ratio >= limit)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; 50 is the median of an odd number of samples."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * percent // 100) - 1))]


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)
