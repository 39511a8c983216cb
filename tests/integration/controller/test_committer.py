"""Many wishes, few transactions: the newest wins, equal ones are not written, removed clusters are refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from integration.controller.world import soon
from isthmus_controller.exports import CommitStats, Committer
from isthmus_controller.registry import Wish
from isthmus_controller.store import ClusterKey, EtcdClient, ExportKey, Keys, Target
from isthmus_core.errors import Refused
from isthmus_core.names import ClusterId, ServiceName
from isthmus_kit.tasks import own_tasks
from support.etcd import Etcd

pytestmark = pytest.mark.anyio

A, B = ClusterId("a"), ClusterId("b")


class Counted(CommitStats):
    """What the committer did."""

    def __init__(self) -> None:
        self.transactions: list[int] = []
        self.equal = 0

    def committed(self, operations: int, seconds: float, revision: int, started: float) -> None:
        self.transactions.append(operations)

    def unchanged(self, operations: int) -> None:
        self.equal += operations


@pytest.fixture
async def client(etcd: Etcd) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(Target((f"http://{etcd.address}",))) as opened:
        yield opened


@pytest.fixture
async def keys(client: EtcdClient, federation_name: str) -> Keys:
    keys = Keys.of(federation_name)
    for cluster in (A, B):
        await client.put(keys.path(ClusterKey(cluster)), b"a member")
    return keys


def wish(cluster: ClusterId, number: int, body: bytes | None = b"x") -> Wish:
    return Wish(ExportKey(ServiceName("shop", f"s{number}"), cluster), body)


async def test_a_large_response_goes_in_transactions_of_a_hundred_and_again_in_none(
    client: EtcdClient, keys: Keys
) -> None:
    stats = Counted()
    committer = Committer(client, keys, lambda _: None, lambda: 0, stats)
    async with own_tasks() as owner:
        owner.start("committer", committer.run())
        wishes = [wish(A, number) for number in range(250)]
        await committer.commit(A, wishes)
        assert sorted(stats.transactions) == [50, 100, 100]
        await committer.commit(A, wishes)
        assert (len(stats.transactions), stats.equal) == (3, 250)


async def test_while_one_transaction_is_on_its_way_the_next_ones_are_gathered_and_the_newest_wins(
    client: EtcdClient, keys: Keys
) -> None:
    stats = Counted()
    committer = Committer(client, keys, lambda _: None, lambda: 0, stats)
    async with own_tasks() as owner:
        owner.start("committer", committer.run())
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(committer.commit(A, [wish(A, 1, str(number).encode())]))
                await asyncio.sleep(0)
        stored = await client.get(keys.path(wish(A, 1).key))
        assert stored is not None and stored.value == b"49"
        assert len(stats.transactions) < 10


async def test_a_removed_cluster_is_refused_and_the_others_of_its_round_are_committed(
    client: EtcdClient, keys: Keys
) -> None:
    committer = Committer(client, keys, lambda _: None, lambda: 0)
    await client.delete(keys.path(ClusterKey(B)))
    async with asyncio.TaskGroup() as group:
        ours = group.create_task(committer.commit(A, [wish(A, 1)]))
        theirs = group.create_task(_refused(committer.commit(B, [wish(B, 1)])))
        await asyncio.sleep(0)
        async with own_tasks() as owner:
            owner.start("committer", committer.run())
            await asyncio.wait({ours, theirs})
    assert "b is not registered" in theirs.result()
    assert await client.get(keys.path(wish(A, 1).key)) is not None
    assert await client.get(keys.path(wish(B, 1).key)) is None


async def test_wishes_of_a_stream_that_ended_before_their_turn_are_not_written(client: EtcdClient, keys: Keys) -> None:
    committer = Committer(client, keys, lambda _: None, lambda: 0)
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(committer.commit(A, [wish(A, 1, b"old")]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
    async with own_tasks() as owner:
        owner.start("committer", committer.run())
        await committer.commit(A, [wish(A, 2)])

        async def written() -> bool:
            return await client.get(keys.path(wish(A, 2).key)) is not None

        await soon(written)
        assert await client.get(keys.path(wish(A, 1).key)) is None


async def _refused(commit: object) -> str:
    with pytest.raises(Refused) as refused:
        await commit  # type: ignore[misc]
    return str(refused.value)
