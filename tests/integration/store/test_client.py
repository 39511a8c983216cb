"""The client against a real etcd: what is written is what is read, conditions hold, and sentences are clear."""

from collections.abc import Callable

import pytest

from isthmus_controller.store import (
    Compacted,
    Compare,
    Delete,
    EtcdClient,
    Get,
    Put,
    Target,
    absent,
    created_at,
    holds,
    present,
    unchanged,
)
from isthmus_controller.store.values import Field, Relation
from isthmus_core.errors import InvalidInput, Unavailable
from support.etcd import Etcd
from support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_key_is_written_read_and_deleted(client: EtcdClient, prefix: str) -> None:
    revision = await client.put(prefix + "a", b"1")
    found = await client.get(prefix + "a")
    assert found is not None
    assert (found.value, found.mod_revision, found.create_revision, found.version) == (b"1", revision, revision, 1)
    assert await client.delete(prefix + "a") == 1
    assert await client.get(prefix + "a") is None
    old = await client.get(prefix + "a", revision=revision)
    assert old == found


async def test_a_long_range_is_read_in_pages_of_one_revision(client: EtcdClient, prefix: str) -> None:
    wanted = {f"{prefix}k/{number:04d}": b"v" for number in range(250)}
    written = await client.write_all([Put(key, value) for key, value in wanted.items()])
    assert (written.succeeded, written.done) == (True, 250)
    snapshot = await client.range(prefix + "k/", page=7)
    assert {item.key: item.value for item in snapshot.items} == wanted
    assert [item.key for item in snapshot.items] == sorted(wanted)
    assert snapshot.revision >= written.revision
    assert await client.delete(prefix + "k/", prefix=True) == 250


async def test_a_range_ends_where_its_prefix_ends(client: EtcdClient, prefix: str) -> None:
    await client.write_all([Put(prefix + name, b"") for name in ("a/1", "a/2", "a0", "b/1")])
    assert [item.key for item in (await client.range(prefix + "a/")).items] == [prefix + "a/1", prefix + "a/2"]


async def test_every_kind_of_condition_holds_when_it_should(client: EtcdClient, prefix: str) -> None:
    key = prefix + "a"
    assert (await client.txn([absent(key)], [Put(key, b"1")])).succeeded
    assert not (await client.txn([absent(key)], [Put(key, b"2")])).succeeded
    found = await client.get(key)
    assert found is not None
    for condition, expected in (
        (present(key), True),
        (present(key + "x"), False),
        (unchanged(key, found.mod_revision), True),
        (unchanged(key, found.mod_revision - 1), False),
        (unchanged(key + "x", 0), True),
        (created_at(key, found.create_revision), True),
        (created_at(key, found.create_revision + 1), False),
        (holds(key, b"1"), True),
        (holds(key, b"2"), False),
        (Compare(key, Field.VERSION, Relation.LESS, 2), True),
        (Compare(key, Field.VALUE, Relation.NOT_EQUAL, b"1"), False),
    ):
        assert (await client.txn([condition])).succeeded is expected, condition


async def test_a_transaction_writes_at_one_revision_and_reads_what_it_asks_for(client: EtcdClient, prefix: str) -> None:
    result = await client.txn((), [Put(prefix + "a", b"1"), Put(prefix + "b", b"2"), Get(prefix, prefix=True)])
    assert [[item.mod_revision for item in read] for read in result.reads] == [[], [], [result.revision] * 2]
    failed = await client.txn([absent(prefix + "a")], [Delete(prefix, prefix=True)], [Get(prefix + "a")])
    assert (failed.succeeded, failed.reads[0][0].value) == (False, b"1")


async def test_writes_stop_where_their_condition_fails(client: EtcdClient, prefix: str) -> None:
    guard = prefix + "guard"
    await client.put(guard, b"")
    operations: list[Put | Delete] = [
        *(Put(f"{prefix}k{n}", b"") for n in range(150)),
        Delete(guard),
        *(Put(f"{prefix}l{n}", b"") for n in range(150)),
    ]
    written = await client.write_all(operations, [present(guard)])
    assert (written.succeeded, written.done) == (False, 200)
    assert await client.get(prefix + "l149") is None


async def test_a_transaction_that_is_too_long_is_refused_here(client: EtcdClient, prefix: str) -> None:
    with pytest.raises(ValueError, match="write_all"):
        await client.txn((), [Put(f"{prefix}{n}", b"") for n in range(129)])


async def test_a_value_that_is_too_large_is_refused_with_a_sentence(client: EtcdClient, prefix: str) -> None:
    with pytest.raises(InvalidInput, match=r"1\.5 MiB"):
        await client.put(prefix + "a", bytes(1_600_000))


async def test_a_compacted_revision_cannot_be_read_or_watched(new_etcd: Callable[..., Etcd]) -> None:
    async with EtcdClient(Target((f"http://{new_etcd().address}",))) as client:
        first = await client.put("/a", b"1")
        last = await client.put("/a", b"2")
        await client.compact(last)
        with pytest.raises(Compacted):
            await client.range("/", revision=first)
        stream = await client.watch("/", first)
        with pytest.raises(Compacted) as told:
            await stream.read(5)
        stream.close()
        assert told.value.compact_revision == last


async def test_the_member_says_who_it_is(client: EtcdClient, etcd: Etcd) -> None:
    status = await client.status()
    assert status.address == f"http://{etcd.address}"
    assert tuple(int(part) for part in status.version.split(".")) >= (3, 5, 4)
    assert status.leader_id == status.member_id
    assert await client.alarms() == ()
    assert await client.health() == ""


async def fill(client: EtcdClient) -> bool:
    await client.put("/fill", bytes(100_000))
    return False


async def test_an_etcd_without_space_says_so(new_etcd: Callable[..., Etcd]) -> None:
    server = new_etcd("--quota-backend-bytes=300000")
    async with EtcdClient(Target((f"http://{server.address}",))) as client:
        with pytest.raises(Unavailable, match=r"no space left.*alarm disarm"):
            await eventually(lambda: fill(client), within=10, every=0.05)
        assert [alarm.kind for alarm in await client.alarms()] == ["NOSPACE"]
        assert "no space left" in await client.health()
        assert await client.get("/fill") is not None  # reading goes on
