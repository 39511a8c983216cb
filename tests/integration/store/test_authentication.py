"""User and password at a real etcd: tokens expire and are renewed, wrong passwords are a clear sentence."""

import asyncio
from collections.abc import Callable

import pytest
from aetcd import rpc

from isthmus_controller.store import EtcdClient, Follower, Target
from isthmus_core.errors import InvalidInput, Refused
from isthmus_kit.tasks import own_tasks
from support.etcd import Etcd
from support.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def guarded(new_etcd: Callable[..., Etcd]) -> Etcd:
    """An etcd with the users root/secret and reader/secret (may read /open/ only); tokens live 1 s unused."""
    server = new_etcd("--auth-token-ttl=1", "--bcrypt-cost=4")
    async with EtcdClient(Target((f"http://{server.address}",))) as client:
        line = await client.connection.line()
        may_read = rpc.Permission(permType=rpc.Permission.READ, key=b"/open/", range_end=b"/open0")
        await line.auth.UserAdd(rpc.AuthUserAddRequest(name="root", password="secret"), timeout=5)
        await line.auth.UserAdd(rpc.AuthUserAddRequest(name="reader", password="secret"), timeout=5)
        await line.auth.RoleAdd(rpc.AuthRoleAddRequest(name="root"), timeout=5)
        await line.auth.RoleAdd(rpc.AuthRoleAddRequest(name="reader"), timeout=5)
        await line.auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name="reader", perm=may_read), timeout=5)
        for name in ("root", "reader"):
            await line.auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=name, role=name), timeout=5)
        await line.auth.AuthEnable(rpc.AuthEnableRequest(), timeout=5)
    return server


def target(server: Etcd, user: str = "root", password: str = "secret") -> Target:
    return Target((f"http://{server.address}",), user=user, password=password)


async def test_reads_and_writes_go_on_after_tokens_expired(guarded: Etcd) -> None:
    async with EtcdClient(target(guarded)) as client:
        for number in range(3):
            await client.put("/a", str(number).encode())
            found = await client.get("/a")
            assert found is not None and found.value == str(number).encode()
            await asyncio.sleep(1.6)  # longer than a token lives unused


async def test_many_calls_at_once_after_a_restart_authenticate_again(guarded: Etcd) -> None:
    async with EtcdClient(target(guarded)) as client:
        await client.put("/a", b"1")
        guarded.restart()  # simple tokens live in etcd's memory
        await eventually(lambda: healthy(client), 10)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.get("/a"), name=f"get {n}") for n in range(20)]
        assert all(task.result() is not None for task in tasks)


async def healthy(client: EtcdClient) -> bool:
    return await client.health() == ""


async def test_a_follower_goes_on_after_a_restart(guarded: Etcd) -> None:
    world: dict[str, bytes | None] = {}
    async with EtcdClient(target(guarded)) as client, own_tasks() as owner:
        follower = Follower(
            client, "/", lambda batch: world.update({c.key: c.value for c in batch.changes}), progress_every=0.2
        )
        owner.start("follower", follower.run())
        await follower.state.wait(lambda state: state.connected, 5)
        guarded.kill()
        guarded.start()
        await eventually(lambda: healthy(client), 10)
        await client.put("/a", b"1")
        await eventually(lambda: world == {"/a": b"1"}, 10)


@pytest.mark.parametrize(("user", "password"), [("root", "wrong"), ("nobody", "secret")])
async def test_a_wrong_password_is_one_clear_sentence(guarded: Etcd, user: str, password: str) -> None:
    async with EtcdClient(target(guarded, user, password)) as client:
        with pytest.raises(InvalidInput, match="Check the user and the password"):
            await client.get("/a")
        with pytest.raises(InvalidInput, match="Check the user and the password"):  # a follower fails at once, too
            await Follower(client, "/", lambda batch: None).run()


async def test_no_password_is_one_clear_sentence(guarded: Etcd) -> None:
    async with EtcdClient(Target((f"http://{guarded.address}",))) as client:
        with pytest.raises(InvalidInput, match="Give the user and the password"):
            await client.get("/a")


async def test_what_a_user_may_not_read_is_refused(guarded: Etcd) -> None:
    async with EtcdClient(target(guarded, "reader")) as client:
        assert await client.get("/open/a") is None
        with pytest.raises(Refused, match="role"):
            await client.get("/closed/a")
        with pytest.raises(Refused, match="role"):
            await client.put("/open/a", b"")
        with pytest.raises(Refused):
            await client.watch("/closed/", 1)
