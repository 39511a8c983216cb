"""Following a prefix of a real etcd: everything is delivered, once, in order."""

from collections.abc import Callable

import pytest

from isthmus_controller.store import Delete, EtcdClient, Origin, Put, Target
from isthmus_controller.store.values import Revision
from support.etcd import Etcd
from support.waiting import eventually

from .conftest import Follow

pytestmark = pytest.mark.anyio


async def test_what_is_there_comes_first_and_changes_follow(client: EtcdClient, prefix: str, follow: Follow) -> None:
    await client.put(prefix + "a", b"1")
    follower, seen = follow()
    await follower.state.wait(lambda state: state.synced, 5)
    assert [(batch.origin, len(batch.changes)) for batch in seen.batches] == [(Origin.READ, 1)]
    await client.put(prefix + "a", b"2")
    await client.put(prefix + "b", b"3")
    await client.delete(prefix + "a")
    revision = await client.put(prefix + "c", b"4")
    await follower.reached(revision)
    assert [(c.key.removeprefix(prefix), c.value) for c in seen.changes] == [
        ("a", b"1"),
        ("a", b"2"),
        ("b", b"3"),
        ("a", None),
        ("c", b"4"),
    ]
    assert {batch.origin for batch in seen.batches[1:]} == {Origin.WATCH}


async def test_a_transaction_arrives_as_one_batch(client: EtcdClient, prefix: str, follow: Follow) -> None:
    follower, seen = follow()
    await follower.state.wait(lambda state: state.connected, 5)
    result = await client.txn((), [Put(f"{prefix}{n:03d}", b"x") for n in range(100)])
    await follower.reached(result.revision)
    assert [(batch.revision, len(batch.changes)) for batch in seen.batches] == [(result.revision, 100)]
    result = await client.txn((), [Delete(prefix, prefix=True)])
    await follower.reached(result.revision)
    assert len(seen.batches[-1].changes) == 100
    assert seen.world == {}


async def test_changes_that_fill_many_fragments_arrive_whole(client: EtcdClient, prefix: str, follow: Follow) -> None:
    # etcd splits a watch answer above its request limit (1.5 MiB) into fragments: here one answer of 8 MB.
    first = 0
    for number in range(8):
        revision = await client.put(f"{prefix}{number}", bytes([number]) * 1_000_000)
        first = first or revision
    stream = await client.watch(prefix, first)
    try:
        got: list[Revision] = []
        while len(got) < 8:
            read = await stream.read(5)
            got += read if isinstance(read, list) else []
    finally:
        stream.close()
    assert [r.changes[0].value for r in got] == [bytes([n]) * 1_000_000 for n in range(8)]
    follower, seen = follow()
    await follower.state.wait(lambda state: state.synced, 5)
    assert len(seen.world) == 8
    await client.delete(prefix, prefix=True)


async def test_other_prefixes_are_not_delivered_but_progress_is_known(
    client: EtcdClient, prefix: str, follow: Follow
) -> None:
    follower, seen = follow()
    await follower.state.wait(lambda state: state.connected, 5)
    revision = await client.put(prefix.rstrip("/") + "0", b"")
    await follower.reached(revision, 5)  # through a progress notification
    assert seen.batches == []


async def test_an_audit_finds_and_repairs_what_no_watch_told(client: EtcdClient, prefix: str, follow: Follow) -> None:
    await client.write_all([Put(prefix + "a", b"1"), Put(prefix + "b", b"1")])
    follower, seen = follow(audit_every=0.3)
    await follower.state.wait(lambda state: state.connected, 5)
    # As if the watch had lost the write of "a" and the deletion of "ghost".
    ghost = follower._held.pop(prefix + "a")
    follower._held[prefix + "ghost"] = ghost
    del seen.world[prefix + "a"]
    seen.world[prefix + "ghost"] = b"1"
    await follower.state.wait(lambda state: state.repairs == 2, 5)
    assert seen.world == {prefix + "a": b"1", prefix + "b": b"1"}
    assert seen.batches[-1].origin is Origin.REPAIR


async def test_audits_under_constant_change_find_nothing(client: EtcdClient, prefix: str, follow: Follow) -> None:
    follower, seen = follow(audit_every=0.02, progress_every=0.02)
    await follower.state.wait(lambda state: state.connected, 5)
    revision = 0
    for number in range(300):
        revision = await client.put(f"{prefix}{number % 17}", str(number).encode())
        if number % 5 == 0:
            await client.delete(f"{prefix}{number % 3}")
    await follower.reached(revision)
    snapshot = await client.range(prefix)
    await follower.reached(snapshot.revision)
    assert {item.key: item.value for item in snapshot.items} == seen.world
    assert follower.state.value.repairs == 0
    assert follower.state.value.reads == 1


async def test_a_follower_whose_client_was_closed_says_so(new_etcd: Callable[..., Etcd], follow: Follow) -> None:
    other = EtcdClient(Target((f"http://{new_etcd().address}",)))
    follower, _ = follow(other)
    await follower.state.wait(lambda state: state.connected, 5)
    await other.close()
    await follower.state.wait(lambda state: "was closed" in state.why and state.synced, 5)


async def test_many_writers_and_a_follower_agree_in_the_end(
    new_etcd: Callable[..., Etcd], prefix: str, follow: Follow
) -> None:
    async with EtcdClient(Target((f"http://{new_etcd().address}",))) as other:
        follower, seen = follow(other)
        for burst in range(20):
            await other.write_all([Put(f"{prefix}{n}", str(burst).encode()) for n in range(burst, 100 + burst)])
        final = await other.range(prefix)
        await follower.reached(final.revision)
        assert await eventually(lambda: {item.key: item.value for item in final.items} == seen.world)
