"""Newest values: readers never miss the newest one and never see an old one twice."""

import asyncio

import pytest

from isthmus_kit.latest import Latest

pytestmark = pytest.mark.anyio


async def test_a_follower_gets_the_present_value_first() -> None:
    latest = Latest(1)
    async for value in latest.follow():
        assert value == 1
        break


async def test_a_slow_reader_skips_what_was_replaced() -> None:
    latest = Latest[int]()
    follower = latest.follow()
    for number in range(5):
        latest.publish(number)
    assert await anext(follower) == 4
    latest.publish(5)
    latest.publish(6)
    assert await anext(follower) == 6


async def test_a_change_during_the_readers_work_is_not_missed() -> None:
    latest = Latest(0)
    follower = latest.follow()
    assert await anext(follower) == 0
    latest.publish(1)
    await asyncio.sleep(0)
    assert await anext(follower) == 1


async def test_all_followers_are_woken() -> None:
    latest = Latest[str]()
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(anext_of(latest), name=f"reader {number}") for number in range(3)]
        await asyncio.sleep(0)
        latest.publish("news")
    assert [reader.result() for reader in readers] == ["news"] * 3


async def anext_of(latest: Latest[str]) -> str:
    return await anext(latest.follow())


async def test_waiting_for_a_condition_ends_with_the_value_that_satisfies_it() -> None:
    latest = Latest(0)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(latest.wait(lambda n: n >= 2, timeout=5), name="waiting")
        for number in range(1, 4):
            await asyncio.sleep(0)
            latest.publish(number)
    assert waiting.result() >= 2


async def test_waiting_gives_up_at_its_deadline() -> None:
    with pytest.raises(TimeoutError):
        await Latest[int]().wait(timeout=0.01)


async def test_there_is_no_value_before_the_first_one() -> None:
    latest = Latest[int]()
    assert not latest.ready
    with pytest.raises(LookupError):
        _ = latest.value
    latest.publish(0)
    assert latest.ready and latest.value == 0


async def test_none_is_a_value() -> None:
    assert await Latest[int | None](None).wait(timeout=1) is None
