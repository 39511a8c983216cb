"""One member of etcd shows a wrong certificate: the others are used, it is named, and it is used again once mended."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from integration.controller.world import ECHO, Admin, FakeGateway, controller, enrol, make_federation, soon
from isthmus_core.names import ClusterId, ServiceName
from isthmus_kit.files import write_file
from isthmus_kit.pki import encode, make_root
from isthmus_sync import CAPACITY
from support.etcd_cluster import EtcdCluster, EtcdMember

pytestmark = pytest.mark.anyio

CART = ServiceName("shop", "cart")


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[EtcdCluster]:
    with EtcdCluster(tmp_path / "etcd") as cluster:
        await cluster.guard()
        yield cluster


NOT_TRUSTED = (
    "{0}: the certificate of etcd at {0} is not trusted. Check the CA file for etcd, and that etcd's certificate "
    "carries the host name or address in use."
)
NO_TLS = (
    "{0}: no TLS connection with etcd at {0} could be made. Check that etcd serves https there, and that it trusts "
    "this process's client certificate."
)


def spoil(etcd: EtcdCluster, member: EtcdMember, how: str) -> str:
    """Make the certificates of a member wrong; what people should read."""
    another = make_root("another CA", datetime.now(UTC))
    match how:
        case "of another CA":
            member.shown = etcd.issue("stranger", etcd.host, another)
        case "for another name":
            member.shown = etcd.issue("elsewhere", "127.52.99.99")
        case "expired":
            member.shown = etcd.issue("expired", etcd.host, days=-1)
        case _:
            member.trusted = etcd.tls / "another.crt"
            write_file(member.trusted, encode(another.certificate))
            return NO_TLS.format(member.address)
    return NOT_TRUSTED.format(member.address)


async def restart(etcd: EtcdCluster, member: EtcdMember) -> None:
    await asyncio.to_thread(member.kill)
    await asyncio.to_thread(etcd.start, member)
    await etcd.healthy(members=[other for other in etcd.members if other is not member])


async def member_trouble(admin: Admin) -> str:
    return str((await admin.get("/readyz"))["warnings"].get("etcd members", ""))


@pytest.mark.parametrize("how", ["of another CA", "for another name", "expired", "does not trust us"])
async def test_a_member_with_a_wrong_certificate_is_named_and_the_others_are_used_until_it_is_mended(
    etcd: EtcdCluster, federation_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    bad = etcd.members[0]
    sentence = spoil(etcd, bad, how)
    await restart(etcd, bad)
    with caplog.at_level(logging.INFO):
        async with controller(federation, etcd.settings(first=0)) as replica:
            admin = Admin(federation, replica.admin)
            gateways = {}
            for name in "ab":
                identity = await enrol(federation, replica.admin, name, tmp_path / name)
                gateways[name] = FakeGateway(ClusterId(name), federation_name, identity, [replica.grpc])
                gateways[name].introduce()
            async with gateways["a"].running() as a, gateways["b"].running() as b:
                a.export(ECHO)
                await soon(lambda: b.names(CAPACITY) == {"shop/echo/a"})
                trouble = await soon(lambda: member_trouble(admin))
                assert trouble == sentence
                assert (await admin.get("/readyz"))["ready"]
                # Once mended it is as good as any: it takes the place of the one that was used instead.
                bad.shown = bad.trusted = None
                await restart(etcd, bad)
                await soon(lambda: well(admin))
                await asyncio.to_thread(etcd.members[1].kill)
                a.export(CART)
                await soon(lambda: b.names(CAPACITY) == {"shop/echo/a", "shop/cart/a"})
                assert all(not update.removed for update in b.updates)
    said = [record for record in caplog.records if bad.address in record.getMessage() + str(record.__dict__)]
    assert len(said) <= 3, [record.getMessage() for record in said]


async def well(admin: Admin) -> bool:
    return not await member_trouble(admin)
