"""What a publishing shell gives to one peer, and when it gives up; in virtual time."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from isthmus_core.errors import Unavailable
from isthmus_kit.tasks import own_tasks
from isthmus_sync import Publication, Publishing, ResourceCache
from isthmus_sync.server import ServerWire
from isthmus_sync.streams import Guard, publish_on
from isthmus_sync.wire import Request
from support.clock import VIRTUAL_TIME

pytestmark = pytest.mark.anyio

TYPE = "type.googleapis.com/test.Thing"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL_TIME


class Subscriber:
    """Asks for everything, answers nothing, and notes when it was told."""

    def __init__(self, told: list[float]) -> None:
        self._told = told
        self._asked = False

    async def read(self) -> bytes | None:
        if self._asked:
            await asyncio.sleep(60)
            return None
        self._asked = True
        return Request(type_url=TYPE, resource_names_subscribe=["*"]).SerializeToString()

    async def write(self, payload: bytes) -> None:
        self._told.append(asyncio.get_running_loop().time())


async def told_at(resources: int, subscribers: int) -> Sequence[float]:
    cache = ResourceCache(TYPE)
    for number in range(resources):
        cache.put(f"r{number}", b"x")
    cache.mark_synced()
    told: list[float] = []
    large = asyncio.Lock()
    publications = [Publication([cache], large=large) for _ in range(subscribers)]
    async with asyncio.TaskGroup() as group:
        for number, publication in enumerate(publications):
            group.create_task(publish_on(Subscriber(told), Publishing(publication)), name=f"subscriber {number}")
    return told


async def test_long_answers_are_made_one_after_the_other_with_room_between_them() -> None:
    told = await told_at(resources=1_000, subscribers=20)
    assert len(told) == 20
    assert min(later - earlier for earlier, later in itertools.pairwise(told)) > 0.0019


async def test_short_answers_wait_for_nobody() -> None:
    told = await told_at(resources=100, subscribers=20)
    assert len(told) == 20
    assert max(told) - min(told) < 0.001


class Full:
    """The context of a call whose peer reads nothing."""

    async def write(self, payload: bytes) -> None:
        await asyncio.Event().wait()


async def test_a_peer_that_lives_and_reads_nothing_is_given_up_after_a_minute() -> None:
    clock = asyncio.get_running_loop().time
    begun = clock()
    with pytest.raises(Unavailable, match="the peer has not taken a message for 60 s"):
        await ServerWire(Full()).write(b"x")  # type: ignore[arg-type]
    assert 59 < clock() - begun < 61


class Silent:
    """A subscriber that asks, and says no more; `leaves` after so many seconds."""

    def __init__(self, leaves: float) -> None:
        self._leaves = leaves
        self._asked = False

    async def read(self) -> bytes | None:
        if self._asked:
            await asyncio.sleep(self._leaves)
            return None
        self._asked = True
        return Request(type_url=TYPE, resource_names_subscribe=["*"]).SerializeToString()

    async def write(self, _: bytes) -> None:
        await asyncio.sleep(0)


async def talk(guard: Guard | None, changes_every: float = 1_000.0) -> float:
    """Seconds until a stream to somebody silent ends, who would leave after ten minutes."""
    cache = ResourceCache(TYPE)
    cache.put("thing", b"x")
    cache.mark_synced()
    publication = Publication([cache])
    clock = asyncio.get_running_loop().time
    begun = clock()

    async def change() -> None:
        for number in itertools.count():
            await asyncio.sleep(changes_every)
            with publication.change():
                cache.put("thing", str(number).encode())

    async with own_tasks() as owner:
        owner.once("changes", change())
        if guard is None:
            await publish_on(Silent(600), Publishing(publication))
        else:
            with pytest.raises(Unavailable, match="the subscriber has not answered for 60 s, although its connection"):
                await publish_on(Silent(600), Publishing(publication, guard=guard))
    return clock() - begun


async def test_a_peer_that_lives_and_does_not_answer_is_given_up_after_a_minute() -> None:
    assert 60 <= await talk(Guard()) < 61


async def test_and_however_often_it_could_be_told_news() -> None:
    assert 60 <= await talk(Guard(), changes_every=0.25) < 61


async def test_a_peer_of_our_own_may_be_silent() -> None:
    assert 600 <= await talk(None) < 601
