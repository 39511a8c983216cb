"""Joining and leaving: one transaction each, one sentence for each refusal."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from integration.controller.world import ECHO, Admin, FakeGateway, controller, enrol, make_federation, soon
from isthmus_controller.candidates import Candidate
from isthmus_controller.housekeeping import Housekeeping
from isthmus_controller.members import Members
from isthmus_controller.store import ClusterKey, EtcdClient, ExportKey, Keys, Target, TokenKey
from isthmus_controller.trust import NewFederation, TrustAuthority
from isthmus_controller.view import View
from isthmus_core.errors import InvalidInput, IsthmusError, Refused
from isthmus_core.model import ClusterState
from isthmus_core.names import ClusterId
from isthmus_kit.pki import make_key, make_request
from isthmus_kit.readiness import Readiness
from isthmus_kit.tasks import own_tasks
from isthmus_sync import IMPORT
from support.etcd import Etcd

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class Clock:
    """A time that the test sets forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def ms(self) -> int:
        return round(self.now().timestamp() * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def federation(tmp_path: Path, federation_name: str) -> NewFederation:
    return make_federation(tmp_path / "controller", federation_name)


@pytest.fixture
async def client(etcd: Etcd) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(Target((f"http://{etcd.address}",))) as opened:
        yield opened


@pytest.fixture
async def members(client: EtcdClient, federation: NewFederation, clock: Clock) -> AsyncIterator[Members]:
    view = View(client, Keys.of(federation.domain), Readiness("registry"))
    trust = TrustAuthority.load(federation.folder)
    async with own_tasks() as owner:
        owner.start("view", view.run())
        await view.wait_synced()
        yield Members(client, view, trust, lambda: ["127.0.0.1:15014"], clock.now)


def request() -> bytes:
    return make_request(make_key(), "a cluster's CA")


async def test_a_token_works_once_and_again_for_the_same_key_only(members: Members) -> None:
    token = await members.register("a", "aws/eu/1", "", HOUR)
    csr = request()
    first = await members.enrol(token.text, csr)
    again = await members.enrol(token.text, csr)
    assert first.cluster.id == again.cluster.id == "a"
    with pytest.raises(Refused, match="was used already"):
        await members.enrol(token.text, request())


async def test_of_two_keys_that_use_a_token_at_once_exactly_one_gets_in(members: Members) -> None:
    token = await members.register("a", "aws/eu/1", "", HOUR)
    results = await asyncio.gather(*(members.enrol(token.text, request()) for _ in range(4)), return_exceptions=True)
    assert sum(1 for result in results if not isinstance(result, BaseException)) == 1
    assert all("used already" in str(r) for r in results if isinstance(r, IsthmusError))


async def test_an_expired_token_is_refused_and_later_cleaned_away(
    members: Members, clock: Clock, client: EtcdClient, federation: NewFederation
) -> None:
    token = await members.register("a", "aws/eu/1", "", timedelta(seconds=30))
    clock.ahead = timedelta(seconds=31)
    with pytest.raises(Refused, match="has expired"):
        await members.enrol(token.text, request())
    keys = Keys.of(federation.domain)
    view = View(client, keys, Readiness("registry"))
    own = Candidate("r1", "", "", "", 0)
    async with own_tasks() as owner:
        owner.start("view", view.run())
        owner.start("housekeeping", Housekeeping(client, view, own, every=0.05, now_ms=clock.ms).run())
        await soon(lambda: view.synced and not view.held(keys.prefix(TokenKey)))
    with pytest.raises(Refused, match="has expired"):
        await members.enrol(token.text, request())


async def test_an_id_that_is_taken_says_so_and_a_newer_token_replaces_an_older(members: Members) -> None:
    old = await members.register("a", "aws/eu/1", "", HOUR)
    new = await members.register("a", "aws/eu/1", "", HOUR)
    with pytest.raises(Refused, match="not known"):
        await members.enrol(old.text, request())
    await members.enrol(new.text, request())
    with pytest.raises(InvalidInput, match=r"cluster id 'a' is taken.*remove"):
        await members.register("a", "aws/eu/1", "", HOUR)


async def test_a_request_that_is_none_does_not_use_up_the_token(members: Members) -> None:
    token = await members.register("a", "aws/eu/1", "", HOUR)
    with pytest.raises(InvalidInput):
        await members.enrol(token.text, b"no request")
    assert (await members.enrol(token.text, request())).cluster.id == "a"


async def test_a_token_of_another_federation_is_refused(members: Members, client: EtcdClient, tmp_path: Path) -> None:
    other = make_federation(tmp_path / "other", "other.example")
    view = View(client, Keys.of(f"x-{tmp_path.name}.example"), Readiness("registry"))
    async with own_tasks() as owner:
        owner.start("view", view.run())
        await view.wait_synced()
        foreign = Members(client, view, TrustAuthority.load(other.folder), lambda: ["127.0.0.1:1"])
        token = await foreign.register("a", "aws/eu/1", "", HOUR)
    with pytest.raises(Refused, match="another federation"):
        await members.enrol(token.text, request())


async def test_a_drained_cluster_stays_drained_until_a_person_takes_it_back(members: Members) -> None:
    token = await members.register("a", "aws/eu/1", "net-1", HOUR)
    await members.enrol(token.text, request())
    assert (await members.set_state("a", ClusterState.DRAINING)).state is ClusterState.DRAINING
    back = await members.set_state("a", ClusterState.ACTIVE)
    assert (back.state, back.network) == (ClusterState.ACTIVE, "net-1")


async def test_removing_a_cluster_takes_everything_it_offered_and_ends_its_streams(
    etcd: Etcd, federation: NewFederation, client: EtcdClient, tmp_path: Path
) -> None:
    keys = Keys.of(federation.domain)
    async with controller(federation, etcd.address) as replica:
        admin = Admin(federation, replica.admin)
        ids = {name: await enrol(federation, replica.admin, name, tmp_path / name) for name in ("a", "b")}
        a, b = (FakeGateway(ClusterId(n), federation.domain, ids[n], [replica.grpc]) for n in ("a", "b"))
        async with a.running(), b.running():
            a.introduce()
            b.introduce()
            a.export()
            await soon(lambda: b.names(IMPORT) == {"shop/echo"})
            status, removed = await admin.ask("DELETE", "/v1/clusters/a")
            assert status == 200 and removed["exports"] == 1
            await soon(lambda: b.names(IMPORT) == set())
            await soon(lambda: any("PERMISSION_DENIED" in why and "not registered" in why for why in a.ended))
            assert await client.get(keys.path(ClusterKey(ClusterId("a")))) is None
            left = (await client.range(keys.root)).items
            assert [kv.key for kv in left if kv.key.endswith("/a") or "/a/" in kv.key] == []
        joined = await enrol(federation, replica.admin, "a", tmp_path / "a-again")
        assert joined.id.trust_domain == f"a.{federation.domain}"
        services = await admin.get("/v1/services")
        assert services == {"services": []}


async def test_what_an_interrupted_removal_left_behind_is_cleaned_up_by_the_leader(
    etcd: Etcd, federation: NewFederation, client: EtcdClient
) -> None:
    keys = Keys.of(federation.domain)
    orphan = keys.path(ExportKey(ECHO, ClusterId("gone")))
    await client.put(orphan, b"\x08\x01")

    async def swept() -> bool:
        return await client.get(orphan) is None

    async with controller(federation, etcd.address):
        await soon(swept)
