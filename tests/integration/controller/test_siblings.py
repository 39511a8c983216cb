"""Gateways of one cluster that do not have the same files: what one of them lacks stays, and nobody is sent there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.controller.world import ECHO, FakeGateway, controller, enrol, make_federation, soon
from isthmus_controller.exports.siblings import PATIENCE
from isthmus_core.names import ClusterId, ServiceName
from isthmus_kit.pki import Identity
from isthmus_sync import CAPACITY, CLUSTER, EXPORT, GATEWAY, IMPORT
from isthmus_sync.proto import isthmus_pb2 as pb
from support.etcd import Etcd

pytestmark = pytest.mark.anyio

CART, PAY = ServiceName("shop", "cart"), ServiceName("shop", "pay")
ALL = (ECHO, CART, PAY)


@dataclass
class Town:
    """Cluster a with gateways that a test starts, and cluster b that looks on, at one replica each or at the same."""

    domain: str
    identity: Identity
    addresses: list[str]
    onlooker: FakeGateway

    def gateway(self, name: str, *services: ServiceName, at: int = 0) -> FakeGateway:
        """A gateway of cluster a that has these services, at a replica."""
        gateway = FakeGateway(ClusterId("a"), self.domain, self.identity, [self.addresses[at]], id=name)
        for service in services:
            gateway.export(service)
        gateway.introduce()
        return gateway

    @property
    def exported(self) -> set[str]:
        """The imports that b was told of, with how much of each is alive."""
        alive = {name.rpartition("/")[0] for name in self.onlooker.names(CAPACITY)}
        return self.onlooker.names(IMPORT) & alive

    @property
    def doors(self) -> list[str]:
        """The gateways of a that b may come to."""
        return [gateway.id for gateway in self._told.gateways]

    @property
    def connected(self) -> bool:
        """Whether a has a session, as b was told."""
        return self._told.session.held

    @property
    def _told(self) -> pb.Cluster:
        return pb.Cluster.FromString(self.onlooker.known.get(CLUSTER, {}).get("a", b""))


@asynccontextmanager
async def town(etcd: Etcd, name: str, folder: Path, replicas: int = 1) -> AsyncIterator[Town]:
    federation = make_federation(folder / "controller", name)
    async with AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(controller(federation, etcd.address, session_ttl_seconds=2))
            for _ in range(replicas)
        ]
        ids = {c: await enrol(federation, running[0].admin, c, folder / c) for c in ("a", "b")}
        b = FakeGateway(ClusterId("b"), federation.domain, ids["b"], [running[0].grpc])
        await stack.enter_async_context(b.running())
        yield Town(federation.domain, ids["a"], [replica.grpc for replica in running], b)


def names(*services: ServiceName) -> set[str]:
    return {str(service) for service in services}


def said(gateway: FakeGateway, *types: str) -> bool:
    """Whether the gateway has an answer to the first it said of each type."""
    return {acked.type_url for acked in gateway.acked} >= set(types or (GATEWAY, EXPORT, CAPACITY))


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("services", [(), (ECHO,)])
async def test_a_gateway_with_fewer_services_withdraws_nothing_and_is_shown_when_it_has_them_all(
    etcd: Etcd, federation_name: str, tmp_path: Path, services: tuple[ServiceName, ...], replicas: int
) -> None:
    async with town(etcd, federation_name, tmp_path, replicas) as it, it.gateway("g1", *ALL).running():
        await soon(lambda: it.exported == names(*ALL) and it.doors == ["g1"])
        seen = len(it.onlooker.updates)
        async with it.gateway("g2", *services, at=replicas - 1).running() as g2:
            await soon(lambda: said(g2))
            await asyncio.sleep(0.5)  # nothing happens, for longer than anything takes
            assert it.exported == names(*ALL) and it.doors == ["g1"]
            assert not any(u.removed for u in it.onlooker.updates[seen:]), "not even for a moment"
            for service in ALL:
                g2.export(service)
            await soon(lambda: it.doors == ["g1", "g2"])
            g2.unexport(PAY)  # somebody deletes the file
            await soon(lambda: it.exported == names(ECHO, CART))
            assert it.doors == ["g1", "g2"]


async def test_the_only_gateway_that_comes_back_with_fewer_services_withdraws_the_others(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    async with town(etcd, federation_name, tmp_path) as it:
        async with it.gateway("g1", *ALL).running():
            await soon(lambda: it.exported == names(*ALL))
        async with it.gateway("g1", ECHO).running():
            await soon(lambda: it.exported == names(ECHO) and it.doors == ["g1"])
            assert it.onlooker.names(CAPACITY) == {"shop/echo/a"}


async def test_a_gateway_that_lost_services_is_shown_no_more_until_it_is_the_last_that_is_left(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    async with town(etcd, federation_name, tmp_path) as it, it.gateway("g1", *ALL).running() as g1:
        async with it.gateway("g2", *ALL).running():
            await soon(lambda: it.doors == ["g1", "g2"])
        async with it.gateway("g2", ECHO).running():
            await soon(lambda: it.doors == ["g1"])
            assert it.exported == names(*ALL)
            g1.leave()
            await soon(lambda: it.doors == ["g2"])
            assert it.exported == names(*ALL), "who loses its siblings withdraws nothing"
            async with it.gateway("g3", *ALL).running():
                await soon(lambda: it.doors == ["g3"])


async def test_what_was_deleted_at_all_gateways_while_none_was_connected_is_withdrawn(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    async with town(etcd, federation_name, tmp_path) as it:
        async with it.gateway("g1", *ALL).running(), it.gateway("g2", *ALL).running():
            await soon(lambda: it.exported == names(*ALL) and it.doors == ["g1", "g2"])
        async with it.gateway("g1", ECHO).running() as g1:
            await soon(lambda: said(g1))
            assert it.exported == names(*ALL), "the other may have them"
            async with it.gateway("g2", ECHO).running():
                await soon(lambda: it.exported == names(ECHO) and it.doors == ["g1", "g2"])


async def test_of_two_that_start_the_one_whose_envoy_runs_first_does_not_withdraw_what_the_other_has(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    async with town(etcd, federation_name, tmp_path) as it:
        async with it.gateway("g1", *ALL).running() as g1:
            await soon(lambda: it.exported == names(*ALL) and it.doors == ["g1"])
            g1.leave()
            await soon(lambda: it.doors == [])
        again = FakeGateway(ClusterId("a"), it.domain, it.identity, it.addresses, id="g1")
        for service in ALL:
            again.export(service)
        async with again.running(), it.gateway("g2").running() as g2:
            await soon(lambda: said(g2))
            await asyncio.sleep(1)
            again.introduce()
            await soon(lambda: it.doors == ["g1"])
            await asyncio.sleep(PATIENCE)
            assert it.exported == names(*ALL) and it.doors == ["g1"]


async def test_a_service_that_was_withdrawn_elsewhere_is_not_missed(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    async with town(etcd, federation_name, tmp_path) as it, it.gateway("g1", *ALL).running() as g1:
        await soon(lambda: said(g1))
        async with it.gateway("g2", ECHO, CART).running() as g2:
            await soon(lambda: said(g2) and it.doors == ["g1"])
            g1.unexport(PAY)
            await soon(lambda: it.doors == ["g1", "g2"])
            assert it.exported == names(ECHO, CART)


async def test_of_two_that_come_back_after_a_long_outage_the_first_does_not_withdraw_what_the_other_has(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    async with town(etcd, federation_name, tmp_path) as it:
        async with it.gateway("g1", *ALL).running():
            await soon(lambda: it.exported == names(*ALL) and it.doors == ["g1"])
        await soon(lambda: not it.connected)
        async with it.gateway("g2", ECHO).running() as g2:
            await soon(lambda: said(g2))
            async with it.gateway("g1", *ALL).running() as g1:
                await soon(lambda: said(g1))
                await asyncio.sleep(0.5)
                assert it.exported == names(*ALL) and it.doors == ["g1"]
