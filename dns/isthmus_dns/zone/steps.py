"""Do long work in short steps: between two of them its caller may do something else, or leave it for good."""

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""Work that pauses after each step; what it returns is its result. Nothing is changed before the last step."""

MANY = 100
"""So many endpoints, or record sets, are a step: a fraction of a millisecond."""


def finished(steps: Steps[T]) -> T:
    """The result of all steps, one after the other."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
