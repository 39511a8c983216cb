"""Wait for a condition with a deadline: what tests do instead of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(condition: Callable[[], Awaitable[T]], within: float = ..., every: float = ...) -> T: ...


@overload
async def eventually(condition: Callable[[], T], within: float = ..., every: float = ...) -> T: ...


async def eventually(condition: Callable[[], object], within: float = 5.0, every: float = 0.01) -> object:
    """Ask until the answer is true (a failed assert inside counts as "not yet") and return it; fail after `within`
    seconds with the last answer or the last failed assert."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while True:
        try:
            answer = condition()
            value: object = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
            last: object = value
            failure = None
        except AssertionError as not_yet:
            last, failure = not_yet, not_yet
        if loop.time() >= end:
            raise AssertionError(f"not true within {within} s; the last answer was: {last!r}") from failure
        await asyncio.sleep(every)


def wait_until(condition: Callable[[], T], within: float = 5.0, every: float = 0.01) -> T:
    """The same for fixtures that are not asynchronous."""
    end = time.monotonic() + within
    while True:
        try:
            value = condition()
            if value:
                return value
            last: object = value
            failure = None
        except AssertionError as not_yet:
            last, failure = not_yet, not_yet
        if time.monotonic() >= end:
            raise AssertionError(f"not true within {within} s; the last answer was: {last!r}") from failure
        time.sleep(every)
