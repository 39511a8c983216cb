"""etcd freezes, dies, forgets, is restored or is replaced: a follower keeps what it has and catches up completely."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from isthmus_controller.store import (
    Batch,
    EtcdClient,
    Follower,
    LeaseLost,
    Origin,
    OutcomeUnknown,
    Put,
    Session,
    Target,
    WrongCluster,
)
from isthmus_core.errors import Unavailable
from isthmus_kit.tasks import Owner, own_tasks
from support.addresses import free_port
from support.etcd import Etcd
from support.relay import Relay
from support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio

NewEtcd = Callable[..., Etcd]


class Replica:
    """A follower of everything, with its own line to etcd."""

    def __init__(self, owner: Owner, address: str) -> None:
        self.world: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self.client = EtcdClient(Target((f"http://{address}",)), timeout=2.0, attempt=1.0)
        self.follower = Follower(self.client, "/", self._deliver, progress_every=0.2)
        owner.start("follower", self.follower.run())

    def _deliver(self, batch: Batch) -> None:
        self.batches.append(batch)
        for change in batch.changes:
            if change.value is None:
                del self.world[change.key]
            else:
                self.world[change.key] = change.value

    async def connected(self, within: float = 10.0) -> None:
        await self.follower.state.wait(lambda state: state.connected, within)

    async def disconnected(self, within: float = 10.0) -> None:
        await self.follower.state.wait(lambda state: not state.connected, within)

    async def shows(self, world: dict[str, bytes], within: float = 10.0) -> None:
        await eventually(lambda: self.world == world, within)


@pytest.fixture
async def owner() -> AsyncIterator[Owner]:
    async with own_tasks() as made:
        yield made


@pytest.fixture
async def server(new_etcd: NewEtcd) -> Etcd:
    return new_etcd()


@pytest.fixture
async def direct(server: Etcd) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(Target((f"http://{server.address}",)), timeout=2.0, attempt=1.0) as client:
        yield client


async def until_it_answers(client: EtcdClient) -> None:
    async def answers() -> bool:
        return await client.health() == ""

    await eventually(answers, 15, every=0.05)


def freeze(server: Etcd) -> None:
    """Stop it, and return when every thread has stopped: the signal takes a moment."""
    server.freeze()
    tasks = Path(f"/proc/{server.process.pid}/task")
    wait_until(lambda: all(") T" in (task / "stat").read_text() for task in tasks.iterdir()))


async def test_a_frozen_etcd_fails_calls_in_time_and_is_followed_on_afterwards(
    server: Etcd, direct: EtcdClient, owner: Owner
) -> None:
    await direct.put("/a", b"1")
    replica = Replica(owner, server.address)
    await replica.connected()
    clock = asyncio.get_running_loop().time
    freeze(server)
    try:
        began = clock()
        with pytest.raises(Unavailable):
            await direct.get("/a")
        assert clock() - began < 4  # 2 s, and what a busy machine adds
        await asyncio.sleep(max(0.0, 3.0 - (clock() - began)))  # longer than a follower waits for progress
        assert replica.world == {"/a": b"1"}
    finally:
        server.thaw()
    await until_it_answers(direct)
    await direct.put("/a", b"2")
    await replica.shows({"/a": b"2"})
    assert replica.follower.state.value.repairs == 0
    await replica.client.close()


async def test_a_killed_etcd_takes_nothing_away_and_its_changes_are_caught_up(
    server: Etcd, direct: EtcdClient, owner: Owner
) -> None:
    await direct.write_all([Put(f"/{n}", b"1") for n in range(50)])
    replica = Replica(owner, server.address)
    await replica.connected()
    server.kill()
    await replica.disconnected()
    assert len(replica.world) == 50
    assert "cannot be reached" in replica.follower.state.value.why or "Socket" in replica.follower.state.value.why
    server.start()
    await until_it_answers(direct)
    await direct.delete("/7")
    await replica.shows({f"/{n}": b"1" for n in range(50) if n != 7})
    assert replica.follower.state.value.reads == 1  # the watch went on; nothing had to be read again
    await replica.client.close()


async def test_deletions_missed_before_a_compaction_are_made(server: Etcd, direct: EtcdClient, owner: Owner) -> None:
    await direct.write_all([Put("/kept", b"1"), Put("/gone", b"1"), Put("/changed", b"1")])
    async with Relay((server.host, server.port)) as relay:
        replica = Replica(owner, f"127.0.0.1:{relay.port}")
        await replica.connected()
        await relay.refuse()
        relay.cut()
        await replica.disconnected()
        await direct.delete("/gone")
        await direct.put("/changed", b"2")
        await direct.compact(await direct.put("/new", b"1"))
        assert "/gone" in replica.world
        await relay.listen()
        await replica.shows({"/kept": b"1", "/changed": b"2", "/new": b"1"})
        last = replica.batches[-1]
        assert last.origin is Origin.READ
        assert {change.key for change in last.changes} == {
            "/gone",
            "/changed",
            "/new",
        }  # what is equal is not told again
        await replica.client.close()


async def test_a_black_hole_is_noticed_and_survived(server: Etcd, direct: EtcdClient, owner: Owner) -> None:
    await direct.put("/a", b"1")
    async with Relay((server.host, server.port)) as relay:
        replica = Replica(owner, f"127.0.0.1:{relay.port}")
        await replica.connected()
        relay.black_hole()
        await replica.disconnected(within=6.0)
        assert replica.world == {"/a": b"1"}
        with pytest.raises(Unavailable):
            await replica.client.put("/b", b"1")
        relay.cut()
        relay.restore()
        await direct.put("/a", b"2")
        await eventually(lambda: replica.world["/a"] == b"2", 10)
        await replica.client.close()


async def test_a_write_whose_answer_is_lost_has_an_unknown_outcome(server: Etcd) -> None:
    async with Relay((server.host, server.port)) as relay:
        client = EtcdClient(Target((f"http://127.0.0.1:{relay.port}",)), timeout=1.0)
        await client.get("/a")
        relay.black_hole()
        with pytest.raises(OutcomeUnknown):
            await client.put("/a", b"1")
        await client.close()


async def test_dead_addresses_are_passed_over(server: Etcd, direct: EtcdClient) -> None:
    addresses = (f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}", f"http://{server.address}")
    async with EtcdClient(Target(addresses)) as client:
        await client.put("/a", b"1")
        assert client.connection.address == addresses[2]
        assert await client.get("/a") == await direct.get("/a")


async def test_a_member_that_falls_silent_is_left_for_the_next(server: Etcd, direct: EtcdClient) -> None:
    async with Relay((server.host, server.port)) as first, Relay((server.host, server.port)) as second:
        addresses = tuple(f"http://127.0.0.1:{relay.port}" for relay in (first, second))
        async with EtcdClient(Target(addresses), attempt=0.5) as client:
            await direct.put("/a", b"1")
            assert await client.get("/a") is not None
            first.black_hole()
            assert await client.get("/a") is not None  # within one call: a read goes on by itself
            assert client.connection.address == addresses[1]
            await second.refuse()
            second.cut()
            first.cut()
            first.restore()
            await eventually(lambda: read(client), 10)
            assert client.connection.address == addresses[0]


async def read(client: EtcdClient) -> bool:
    try:
        return await client.get("/a") is not None
    except Unavailable:
        return False


async def test_all_members_dead_is_one_clear_sentence() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    async with EtcdClient(Target((address,))) as client:
        with pytest.raises(Unavailable, match=f"etcd at {address} cannot be reached"):
            await client.get("/a")
        assert "cannot be reached" in await client.health()


async def test_another_etcd_at_the_same_address_is_never_followed(
    server: Etcd, direct: EtcdClient, new_etcd: NewEtcd, owner: Owner
) -> None:
    await direct.put("/a", b"1")
    other = new_etcd()
    async with Relay((server.host, server.port)) as relay:
        replica = Replica(owner, f"127.0.0.1:{relay.port}")
        await replica.connected()
        relay.target = (other.host, other.port)
        relay.cut()
        await replica.follower.state.wait(lambda state: "belongs to cluster" in state.why, 10)
        with pytest.raises(WrongCluster):
            await replica.client.put("/b", b"1")
        assert replica.world == {"/a": b"1"}
        relay.target = (server.host, server.port)
        relay.cut()
        await direct.put("/a", b"2")
        await replica.shows({"/a": b"2"})
        await replica.client.close()
    async with EtcdClient(Target((f"http://{other.address}",))) as client:
        assert (await client.range("/")).items == ()  # nothing was written to the wrong one


async def test_an_etcd_restored_from_a_backup_is_read_again(server: Etcd, direct: EtcdClient, owner: Owner) -> None:
    await direct.write_all([Put("/a", b"1"), Put("/b", b"1")])
    server.stop()
    backup = Path(server.folder) / "backup"
    shutil.copytree(server.folder / "etcd", backup)
    server.start()
    await until_it_answers(direct)
    replica = Replica(owner, server.address)
    await replica.connected()
    for number in range(30):
        await direct.put("/a", str(number).encode())
    await replica.follower.reached(await direct.put("/c", b"1"))
    server.kill()
    shutil.rmtree(server.folder / "etcd")
    shutil.copytree(backup, server.folder / "etcd")
    server.start()
    await replica.shows({"/a": b"1", "/b": b"1"}, within=15)
    assert replica.follower.state.value.rollbacks == 1
    await until_it_answers(direct)
    await direct.put("/d", b"1")
    await replica.shows({"/a": b"1", "/b": b"1", "/d": b"1"})
    await replica.client.close()


async def test_a_lease_that_cannot_be_renewed_is_lost_when_it_runs_out(server: Etcd, direct: EtcdClient) -> None:
    session = await Session.grant(direct, 2)
    await direct.put("/s", b"", lease=session.lease)
    clock = asyncio.get_running_loop().time
    began = clock()
    freeze(server)
    try:
        with pytest.raises(LeaseLost):
            await session.keep()
        assert clock() - began < 4.5  # 2 s, and what a busy machine adds
        assert not session.alive
    finally:
        server.thaw()


async def test_a_session_survives_a_short_absence_of_etcd(server: Etcd, direct: EtcdClient, owner: Owner) -> None:
    session = await Session.grant(direct, 6)
    await direct.put("/s", b"", lease=session.lease)
    owner.once("session", session.keep())
    server.kill()
    server.start()
    await until_it_answers(direct)
    found = await direct.get("/s")
    assert found is not None and found.lease == session.lease
    assert session.alive
    await session.revoke()
