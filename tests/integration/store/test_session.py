"""Leases and elections with a real etcd: alive means alive, and only the leader writes."""

import asyncio

import pytest

from isthmus_controller.store import Election, EtcdClient, Fenced, LeaseLost, Put, Session, present
from isthmus_kit.tasks import own_tasks
from support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_session_outlives_its_time_to_live_and_its_keys_end_with_it(client: EtcdClient, prefix: str) -> None:
    session = await Session.grant(client, 1)
    await client.put(prefix + "s", b"", lease=session.lease)
    async with own_tasks() as owner:
        owner.once("session", session.keep())
        until = asyncio.get_running_loop().time() + 2.5
        while asyncio.get_running_loop().time() < until:
            assert session.alive
            assert await client.get(prefix + "s") is not None
            await asyncio.sleep(0.1)
        await session.revoke()
    assert await client.get(prefix + "s") is None
    assert not session.alive


async def test_a_lease_that_somebody_revoked_is_noticed(client: EtcdClient) -> None:
    session = await Session.grant(client, 2)
    twin = Session(client, session.lease, session.ttl, 0.0)
    await twin.revoke()
    with pytest.raises(LeaseLost):
        await session.keep()
    assert session.lost.is_set()


async def test_a_key_cannot_be_attached_to_a_lease_that_is_gone(client: EtcdClient, prefix: str) -> None:
    session = await Session.grant(client, 2)
    await session.revoke()
    with pytest.raises(LeaseLost):
        await client.put(prefix + "s", b"", lease=session.lease)
    await session.revoke()  # twice does no harm


async def test_the_second_candidate_leads_when_the_first_resigns(client: EtcdClient, prefix: str) -> None:
    first, second = await Session.grant(client, 5), await Session.grant(client, 5)
    one = Election(client, prefix + "e", first, name="one")
    two = Election(client, prefix + "e", second, name="two")
    leader = await one.campaign()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(two.campaign(), name="two")
        await eventually(lambda: _candidates(client, prefix + "e/", 2))
        assert not waiting.done()
        assert await one.leader() == "one"
        await leader.resign()
        async with asyncio.timeout(4):  # less than a session lives that nobody renews
            successor = await waiting
    assert await one.leader() == "two"
    assert successor.create_revision > leader.create_revision
    await first.revoke()
    await second.revoke()


async def _candidates(client: EtcdClient, prefix: str, count: int) -> bool:
    return len((await client.range(prefix)).items) == count


async def test_a_leader_that_lost_its_session_cannot_write(client: EtcdClient, prefix: str) -> None:
    session = await Session.grant(client, 5)
    leader = await Election(client, prefix + "e", session).campaign()
    assert (await leader.txn([Put(prefix + "work", b"1")])).succeeded
    # A condition of the caller's own that fails is his to handle: he still leads.
    assert not (await leader.txn([Put(prefix + "work", b"2")], [present(prefix + "nothing")])).succeeded
    await session.revoke()
    with pytest.raises(Fenced):
        await leader.txn([Put(prefix + "work", b"3")])
    found = await client.get(prefix + "work")
    assert found is not None and found.value == b"1"


async def test_a_candidate_whose_session_ended_gives_up(client: EtcdClient, prefix: str) -> None:
    session = await Session.grant(client, 5)
    await session.revoke()
    with pytest.raises(LeaseLost):
        await Election(client, prefix + "e", session).campaign()
