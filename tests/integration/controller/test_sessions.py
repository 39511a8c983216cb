"""A session says that a gateway is connected; the newest stream of the gateway has it, whatever older ones do."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from isthmus_controller.exports.sessions import hold_session
from isthmus_controller.registry import Registry
from isthmus_controller.store import ClusterKey, EtcdClient, Keys, SessionKey, Target
from isthmus_core.names import ClusterId
from isthmus_kit.latest import Latest
from isthmus_kit.tasks import own_tasks
from isthmus_sync.proto import isthmus_pb2 as pb
from support.etcd import Etcd
from support.waiting import eventually

pytestmark = pytest.mark.anyio

A = ClusterId("a")
KEY = SessionKey(A, "g1")


@pytest.fixture
async def client(etcd: Etcd) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(Target((f"http://{etcd.address}",))) as opened:
        yield opened


async def test_a_stream_that_was_succeeded_leaves_the_session_to_the_next_one(
    client: EtcdClient, federation_name: str
) -> None:
    keys, registry = Keys.of(federation_name), Registry(Keys.of(federation_name))
    await client.put(keys.path(ClusterKey(A)), b"a member")
    older, newer = Latest("old"), Latest("new")

    async def lacks() -> str:
        held = await client.get(keys.path(KEY))
        return pb.Session.FromString(held.value).lacks if held is not None else "gone"

    async def said(words: str) -> bool:
        return await lacks() == words

    async with own_tasks() as owner:
        first = owner.start("older", hold_session(client, keys, KEY, registry, 1, older))
        await eventually(lambda: said("old"))
        older.publish("old again")
        await eventually(lambda: said("old again"))
        owner.start("newer", hold_session(client, keys, KEY, registry, 1, newer))
        await eventually(lambda: said("new"))
        older.publish("too late")
        await asyncio.sleep(0.3)
        first.cancel()
        await asyncio.sleep(3)  # the old lease has run out
        assert await lacks() == "new"
        newer.publish("new again")
        await eventually(lambda: said("new again"))


async def test_a_stream_that_outlives_its_successor_has_the_session_again(
    client: EtcdClient, federation_name: str
) -> None:
    keys, registry = Keys.of(federation_name), Registry(Keys.of(federation_name))
    await client.put(keys.path(ClusterKey(A)), b"a member")
    older, newer = Latest("old"), Latest("new")

    async def said(words: str) -> bool:
        held = await client.get(keys.path(KEY))
        return held is not None and pb.Session.FromString(held.value).lacks == words

    async with own_tasks() as owner:
        owner.start("older", hold_session(client, keys, KEY, registry, 1, older))
        await eventually(lambda: said("old"))
        second = owner.start("newer", hold_session(client, keys, KEY, registry, 1, newer))
        await eventually(lambda: said("new"))
        older.publish("old again")
        await asyncio.sleep(0.3)
        second.cancel()
        await eventually(lambda: said("old again"), 20)


async def test_a_session_that_somebody_took_away_is_said_again(client: EtcdClient, federation_name: str) -> None:
    keys, registry = Keys.of(federation_name), Registry(Keys.of(federation_name))
    await client.put(keys.path(ClusterKey(A)), b"a member")
    lacks = Latest("nothing")

    async def there() -> bool:
        return await client.get(keys.path(KEY)) is not None

    async with own_tasks() as owner:
        owner.start("session", hold_session(client, keys, KEY, registry, 1, lacks))
        await eventually(there)
        await client.delete(keys.path(KEY))
        lacks.publish("something")
        await eventually(there)
