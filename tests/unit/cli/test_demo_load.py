"""The demo's load stays a load, and tells the truth, on a machine that is too busy for it."""

import asyncio
import resource
import time
from itertools import pairwise

import pytest

from isthmus_cli.demo.load import PATIENCE, Load, Seen, left_out
from isthmus_cli.demo.questions import Questions


def test_a_load_that_fell_behind_still_sees_who_answers() -> None:
    load = Load("echo", "127.0.0.1", 1, 200)
    load.seen = [Seen(due=1.0, answered=9.8, by="belgium"), Seen(due=1.1, answered=9.9, by="", error="lost")]
    assert load.answered_by(9.7)["belgium"] == 0
    assert load.answers_in(9.7) == {"belgium": 1}


@pytest.mark.parametrize(
    ("behind", "missing"), [(-1.0, 0), (0.0, 0), (PATIENCE, 0), (PATIENCE + 0.01, 102), (3.0, 600)]
)
def test_what_is_much_too_late_is_left_out(behind: float, missing: int) -> None:
    assert left_out(behind, 200) == missing


class Stalled(Load):
    """A load whose process gets no time for a second, once."""

    stalled = False

    def stall(self) -> None:
        time.sleep(1.0)

    async def _ask(self) -> str:
        if not self.stalled:
            self.stalled = True
            self.stall()
        return "somebody"


@pytest.mark.anyio
async def test_a_load_that_got_no_time_goes_on_at_its_rate_and_says_how_many_it_did_not_send() -> None:
    load = Stalled("echo", "127.0.0.1", 1, 200)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(load.run(), name="load")
        while len(load.seen) < 20:
            await asyncio.sleep(0.01)
        task.cancel()
    dues = [one.due for one in load.seen]
    assert load.unsent >= 100
    assert max(later - earlier for earlier, later in pairwise(dues)) > PATIENCE
    assert load.lost == []


class Silent(Load):
    """A load that nobody answers until somebody speaks."""

    def __init__(self, deadline: float) -> None:
        super().__init__("echo", "127.0.0.1", 1, 200, deadline)
        self.speak = asyncio.Event()

    async def _ask(self) -> str:
        await self.speak.wait()
        return "somebody"


@pytest.mark.anyio
async def test_requests_under_way_have_waited_as_well() -> None:
    load, start = Silent(deadline=12), time.monotonic()
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        task = group.create_task(load.run(), name="load")
        while load.slowest(start, time.monotonic()) < 100:
            await asyncio.sleep(0.01)
        load.speak.set()
        task.cancel()
    assert load.lost == []


@pytest.mark.anyio
async def test_a_request_that_is_lost_for_want_of_an_answer_says_so() -> None:
    load = Silent(deadline=0.05)
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        task = group.create_task(load.run(), name="load")
        while not load.lost:
            await asyncio.sleep(0.01)
        task.cancel()
    assert {one.error for one in load.lost} == {"no answer within 0.05 s"}


@pytest.mark.anyio
async def test_a_question_that_cannot_even_be_asked_is_a_wrong_answer_and_no_bug() -> None:
    questions = Questions(("127.0.0.1", 1), "echo.shop.svc.clusterset.local", "127.0.0.2", 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(questions.run(), name="questions")
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            while not questions.wrong:
                await asyncio.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        task.cancel()
    assert "said None" in questions.wrong[0]
