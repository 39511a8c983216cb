"""Pauses that grow to a cap, and tasks that always have an owner."""

import asyncio
from contextlib import suppress

import pytest

from isthmus_kit.backoff import Backoff
from isthmus_kit.tasks import PartEnded, own_tasks


@pytest.mark.parametrize(("attempt", "longest"), [(0, 0.05), (1, 0.1), (5, 1.6), (6, 2.0), (7, 2.0), (10**6, 2.0)])
def test_pauses_double_up_to_the_cap_and_half_of_each_is_random(attempt: int, longest: float) -> None:
    assert Backoff().delay(attempt, lambda: 0.0) == pytest.approx(longest / 2)
    assert Backoff().delay(attempt, lambda: 1.0) == pytest.approx(longest)


@pytest.mark.anyio
async def test_parts_end_when_their_owner_leaves() -> None:
    ended = []

    async def part() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("part")

    async with own_tasks() as owner:
        task = owner.start("part", part())
        assert task.get_name() == "part"
        await asyncio.sleep(0)
    assert ended == ["part"] and task.cancelled()


@pytest.mark.anyio
async def test_a_part_that_never_ran_ends_without_a_warning() -> None:
    async with own_tasks() as owner:
        owner.start("part", asyncio.sleep(60))


@pytest.mark.anyio
async def test_a_part_that_ends_unasked_is_an_error_of_its_owner() -> None:
    async def run() -> None:
        async with own_tasks() as owner:
            owner.start("watch", asyncio.sleep(0))
            await asyncio.sleep(60)

    with pytest.raises(BaseExceptionGroup) as caught:
        await run()
    assert caught.group_contains(PartEnded, match="watch ended although nobody asked it to")


@pytest.mark.anyio
async def test_a_part_that_may_end_may_end() -> None:
    async with own_tasks() as owner:
        await owner.once("task", asyncio.sleep(0))


@pytest.mark.anyio
async def test_a_failing_part_stops_its_siblings() -> None:
    async def fails() -> None:
        raise ConnectionError("gone")

    siblings = []

    async def run() -> None:
        async with own_tasks() as owner:
            siblings.append(owner.start("sibling", asyncio.sleep(60)))
            owner.start("fails", fails())
            await asyncio.sleep(60)

    with pytest.raises(BaseExceptionGroup) as caught:
        await run()
    assert caught.group_contains(ConnectionError) and siblings[0].cancelled()


@pytest.mark.anyio
async def test_a_cancellation_that_meets_an_error_of_a_part_is_not_lost() -> None:
    waits, fails = asyncio.Event(), asyncio.Event()

    async def part() -> None:
        waits.set()
        await fails.wait()
        raise OSError("gone")

    async def connect_for_ever() -> None:
        while True:
            with suppress(ExceptionGroup):
                async with own_tasks() as owner:
                    owner.start("part", part())
                    await asyncio.Event().wait()
            await asyncio.sleep(0)

    async with asyncio.timeout(2), asyncio.TaskGroup() as group:
        loop = group.create_task(connect_for_ever(), name="loop")
        await waits.wait()
        fails.set()
        loop.cancel()
    assert loop.cancelled()
