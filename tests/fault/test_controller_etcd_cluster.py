"""Two controllers over three members of etcd: members die or freeze, and nothing is lost or acknowledged early."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.controller.world import ECHO, Admin, FakeGateway, controller, enrol, make_federation, soon
from isthmus_core.names import ClusterId, ServiceName
from isthmus_sync import CAPACITY, EXPORT, EXPORT_STATUS
from support.etcd_cluster import EtcdCluster, EtcdMember
from support.waiting import eventually

pytestmark = pytest.mark.anyio

CART, DESK = ServiceName("shop", "cart"), ServiceName("shop", "desk")


class Federation:
    """Two replicas; the gateways of a and c are connected with the first of them, that of b with the second."""

    def __init__(self, gateways: dict[str, FakeGateway], admins: list[Admin]) -> None:
        self.gateways = gateways
        self.a, self.b, self.c = (gateways[name] for name in "abc")
        self.admins = admins

    def withdrawn(self) -> list[object]:
        return [update for gateway in self.gateways.values() for update in gateway.updates if update.removed]

    async def agree(self, wanted: dict[str, int]) -> None:
        """Both replicas tell the same: these services, and how much of each is ready."""

        async def same() -> bool:
            first, second = [(await admin.get("/v1/services"))["services"] for admin in self.admins]
            return bool(first == second and {s["service"]: s["ready"] for s in first} == wanted)

        await soon(same)

    async def ready(self) -> list[Any]:
        return [await admin.get("/readyz") for admin in self.admins]


Running = Callable[..., Any]


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[EtcdCluster]:
    with EtcdCluster(tmp_path / "etcd") as cluster:
        await cluster.guard()
        yield cluster


@pytest.fixture
def running(etcd: EtcdCluster, federation_name: str, tmp_path: Path) -> Running:
    """`running(member)`: the first replica begins with that member of etcd, the second one with the next."""

    @asynccontextmanager
    async def run(member: EtcdMember) -> AsyncIterator[Federation]:
        federation = make_federation(tmp_path / "controller", federation_name)
        first = etcd.members.index(member)
        async with AsyncExitStack() as stack:
            replicas = [
                await stack.enter_async_context(controller(federation, etcd.settings(first=(first + n) % 3)))
                for n in range(2)
            ]
            gateways: dict[str, FakeGateway] = {}
            for name, replica in zip("abc", (replicas[0], replicas[1], replicas[0]), strict=True):
                identity = await enrol(federation, replica.admin, name, tmp_path / name)
                gateways[name] = FakeGateway(ClusterId(name), federation_name, identity, [replica.grpc])
                gateways[name].introduce()
                await stack.enter_async_context(gateways[name].running())
            made = Federation(gateways, [Admin(federation, replica.admin) for replica in replicas])
            made.a.export(ECHO)
            await soon(lambda: all(g.names(CAPACITY) == {"shop/echo/a"} for g in gateways.values()))
            await soon(lambda: accepted(made.a, CAPACITY, "shop/echo") and made.a.names(EXPORT_STATUS) == {"shop/echo"})
            yield made

    return run


def accepted(gateway: FakeGateway, type_url: str, name: str) -> bool:
    return any(name in acked.accepted for acked in gateway.acked if acked.type_url == type_url)


async def other_than(etcd: EtcdCluster, leader: EtcdMember) -> EtcdMember:
    return next(member for member in etcd.members if member is not leader)


@pytest.mark.parametrize(
    ("fault", "role"), [("kill", "leader"), ("freeze", "leader"), ("kill", "follower"), ("freeze", "follower")]
)
async def test_losing_one_member_loses_nothing_and_changes_flow_on_in_seconds(
    etcd: EtcdCluster, running: Running, fault: str, role: str
) -> None:
    leader = await etcd.leader()
    lost = leader if role == "leader" else await other_than(etcd, leader)
    async with running(lost) as world:
        clock = asyncio.get_running_loop().time
        begun = clock()
        await asyncio.to_thread(lost.kill if fault == "kill" else lost.freeze)
        world.a.export(CART)
        world.b.export(DESK)
        wanted = {"shop/echo/a", "shop/cart/a", "shop/desk/b"}
        await soon(lambda: all(gateway.names(CAPACITY) == wanted for gateway in world.gateways.values()))
        await soon(lambda: accepted(world.a, CAPACITY, "shop/cart") and accepted(world.b, CAPACITY, "shop/desk"))
        # 2.1 s where it must be given up for lost, 0.2 s where it is refused; the rest is for a busy machine.
        took = clock() - begun
        print(f"changes flow after {took:.2f} s: {fault} {role}")
        assert took < 10
        assert world.withdrawn() == []
        await world.agree({"shop/echo": 2, "shop/cart": 2, "shop/desk": 2})


async def test_what_a_frozen_leader_passes_on_when_it_wakes_up_undoes_nothing_that_was_acknowledged_meanwhile(
    etcd: EtcdCluster, running: Running
) -> None:
    leader = await etcd.leader()
    async with running(await other_than(etcd, leader)) as world:
        await asyncio.to_thread(leader.freeze)
        world.a.export(CART)
        world.a.capacity(ECHO, ready=1)
        await soon(lambda: accepted(world.a, EXPORT, "shop/cart") and "shop/cart/a" in world.b.names(CAPACITY))
        before = len(world.a.acked)
        world.a.unexport(CART)
        world.a.capacity(ECHO, ready=0)
        await soon(lambda: len(world.a.acked) >= before + 2 and "shop/cart/a" not in world.b.names(CAPACITY))
        await world.agree({"shop/echo": 0})
        leader.thaw()
        await etcd.healthy(members=[leader])
        # What it held comes within a heartbeat or two.
        with pytest.raises(AssertionError):
            await eventually(lambda: "shop/cart/a" in world.b.names(CAPACITY), within=1.0)
        await world.agree({"shop/echo": 0})


async def test_without_a_majority_nothing_is_acknowledged_or_withdrawn_and_health_goes_on_within_a_replica(
    etcd: EtcdCluster, running: Running
) -> None:
    leader = await etcd.leader()
    left = await other_than(etcd, leader)
    async with running(left) as world:
        acknowledged = len(world.a.acked)
        away = [member for member in etcd.members if member is not left]
        for member in away:
            await asyncio.to_thread(member.kill)
        world.a.export(CART)
        # Behind a first offer that has to wait for etcd, and then behind themselves: health that comes and goes.
        for ready in (1, 0, 2, 1):
            before = world.c.body(CAPACITY, "shop/echo/a")
            world.a.capacity(ECHO, ready=ready)
            await soon(lambda before=before: world.c.body(CAPACITY, "shop/echo/a") != before)
        assert "shop/cart/a" not in world.c.names(CAPACITY), "nothing comes into being without etcd"

        async def named() -> bool:
            return all(ready["ready"] and "etcd" in ready["warnings"] for ready in await world.ready())

        await soon(named)
        assert len(world.a.acked) == acknowledged, "only what is in etcd is acknowledged"
        status, answer = await world.admins[0].ask("POST", "/v1/tokens", {"cluster": "d", "locality": "aws/eu/1"})
        assert status == 503 and "etcd" in answer["error"]
        assert all("shop/echo/a" in gateway.names(CAPACITY) for gateway in world.gateways.values())
        assert world.withdrawn() == []

        await asyncio.to_thread(etcd.start, *away)
        await soon(lambda: accepted(world.a, EXPORT, "shop/cart") and len(world.a.acked) > acknowledged)
        await world.agree({"shop/echo": 1, "shop/cart": 2})
        assert world.withdrawn() == []

        async def well() -> bool:
            return all(not ready["warnings"] for ready in await world.ready())

        await soon(well)


async def test_a_user_that_loses_its_rights_or_its_password_takes_nothing_away_and_goes_on_when_it_has_them_again(
    etcd: EtcdCluster, running: Running
) -> None:
    async with running(etcd.members[0]) as world:
        await etcd.revoke()
        world.a.export(CART)

        async def named() -> bool:
            return all("etcd" in " ".join(ready["warnings"]) for ready in await world.ready())

        await soon(named)
        assert not accepted(world.a, EXPORT, "shop/cart") and world.withdrawn() == []
        await etcd.grant()
        await soon(lambda: accepted(world.a, EXPORT, "shop/cart"))
        await world.agree({"shop/echo": 2, "shop/cart": 2})
        assert world.withdrawn() == []
