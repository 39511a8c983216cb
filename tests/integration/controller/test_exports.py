"""What gateways publish: acknowledged when committed, refused with reasons, kept when a gateway is lost."""

from pathlib import Path

import pytest

from integration.controller.world import ECHO, Admin, FakeGateway, codec_bytes, controller, enrol, make_federation, soon
from isthmus_controller.store import ClusterKey, EtcdClient, Keys, Target
from isthmus_core.model import ServicePort
from isthmus_core.names import ClusterId, ServiceName
from isthmus_kit.pki import Identity
from isthmus_sync import CAPACITY, CLUSTER, EXPORT, EXPORT_STATUS, IMPORT, codec
from isthmus_sync.proto import isthmus_pb2 as pb
from support.etcd import Etcd

pytestmark = pytest.mark.anyio

CART = ServiceName("shop", "cart")


def cluster_as_told(gateway: FakeGateway, name: str) -> tuple[bool, int, list[str]]:
    """(session held, since, gateways) of a cluster as a gateway was told."""
    if name not in gateway.names(CLUSTER):
        return False, 0, []
    cluster = codec.cluster_value(pb.Cluster.FromString(gateway.body(CLUSTER, name)))
    return cluster.session_held, cluster.session_since_ms, [g.id for g in cluster.gateways]


def rejections(gateway: FakeGateway) -> dict[str, str]:
    return {name: r.reason for nacked in gateway.nacked for name, r in nacked.rejected.items()}


async def test_a_refused_resource_names_its_reason_and_the_rest_is_taken(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        identity = await enrol(federation, replica.admin, "a", tmp_path / "a")
        a = FakeGateway(ClusterId("a"), federation.domain, identity, [replica.grpc])
        a.introduce()
        a.export(ECHO)
        a.export(CART, port=ServicePort("not-a-port-name!", 80))
        with a.offers.change() as caches:
            stolen = pb.Export(schema=1, namespace="shop", name="theirs", cluster="b", ports=[pb.ServicePort(port=80)])
            caches[EXPORT].put("shop/theirs", codec_bytes(stolen))
        async with a.running():
            await soon(lambda: a.names(IMPORT) == {"shop/echo"})
            await soon(lambda: len(rejections(a)) == 2)
            rejected = rejections(a)
            assert "not valid" in rejected["shop/cart"]
            assert "certificate says 'a'" in rejected["shop/theirs"]


async def test_a_gateway_that_comes_back_writes_nothing_new_and_takes_back_what_is_gone(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    async with EtcdClient(Target((f"http://{etcd.address}",))) as client, controller(federation, etcd.address) as one:
        identity = await enrol(federation, one.admin, "a", tmp_path / "a")
        keys = Keys.of(federation.domain)

        def fresh(*services: ServiceName) -> FakeGateway:
            gateway = FakeGateway(ClusterId("a"), federation.domain, identity, [one.grpc])
            for service in services:
                gateway.export(service)
            gateway.introduce()
            return gateway

        async def revisions() -> dict[str, int]:
            found = (await client.range(keys.root)).items
            return {kv.key: kv.mod_revision for kv in found if "/exports/" in kv.key or "/endpoints/" in kv.key}

        async with fresh(ECHO, CART).running() as a:
            await soon(lambda: a.names(CAPACITY) == {"shop/echo/a", "shop/cart/a"} and len(a.names(IMPORT)) == 2)
        before = await revisions()
        async with fresh(ECHO).running() as a:
            await soon(lambda: a.names(CAPACITY) == {"shop/echo/a"} and a.names(IMPORT) == {"shop/echo"})
            after = await revisions()
        assert len(before) == 4 and len(after) == 2
        assert after.items() <= before.items(), "what was equal was not written again"


async def test_a_lost_session_keeps_everything_and_every_replica_tells_the_same_time_of_loss(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    async with (
        controller(federation, etcd.address, session_ttl_seconds=4) as one,
        controller(federation, etcd.address, session_ttl_seconds=4) as two,
    ):
        ids = {name: await enrol(federation, one.admin, name, tmp_path / name) for name in ("a", "b")}
        b = FakeGateway(ClusterId("b"), federation.domain, ids["b"], [two.grpc])
        a = FakeGateway(ClusterId("a"), federation.domain, ids["a"], [one.grpc])
        a.introduce()
        a.export()
        async with b.running():
            async with a.running():
                await soon(lambda: cluster_as_told(b, "a")[0] and b.names(CAPACITY) == {"shop/echo/a"})
                since = cluster_as_told(b, "a")[1]
            # A short break is not seen: the other replica takes the session over.
            back = FakeGateway(ClusterId("a"), federation.domain, ids["a"], [two.grpc], offers=a.offers)
            async with back.running():
                await soon(lambda: back.names(EXPORT_STATUS) == {"shop/echo"})
                assert cluster_as_told(b, "a")[:2] == (True, since)
            held = [u for u in b.updates if u.type_url == CLUSTER and "a" in u.changed]
            assert all(
                pb.Cluster.FromString(u.changed["a"].body).session.held
                for u in held[[pb.Cluster.FromString(u.changed["a"].body).session.held for u in held].index(True) :]
            )
            await soon(lambda: not cluster_as_told(b, "a")[0] and cluster_as_told(b, "a")[1] > since)
            assert cluster_as_told(b, "a")[2] == ["g1"]
            assert b.names(CAPACITY) == {"shop/echo/a"} and b.names(IMPORT) == {"shop/echo"}
            told = [
                (c["id"], c["state"], c["session_since_ms"])
                for address in (one.admin, two.admin)
                for c in (await Admin(federation, address).get("/v1/clusters"))["clusters"]
                if c["id"] == "a"
            ]
            assert told[0] == told[1] and told[0][1] == "control-lost"


async def test_a_gateway_that_takes_its_leave_is_gone_at_once_and_its_exports_stay(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        identity = await enrol(federation, replica.admin, "a", tmp_path / "a")
        one = FakeGateway(ClusterId("a"), federation.domain, identity, [replica.grpc], id="g1")
        two = FakeGateway(ClusterId("a"), federation.domain, identity, [replica.grpc], id="g2")
        for gateway in (one, two):
            gateway.introduce()
            gateway.export()
        async with one.running(), two.running():
            await soon(lambda: cluster_as_told(two, "a")[::2] == (True, ["g1", "g2"]))
            one.leave()
            await soon(lambda: cluster_as_told(two, "a")[::2] == (True, ["g2"]))
            assert two.names(IMPORT) == {"shop/echo"}


async def test_a_certificate_of_another_federation_gets_no_stream(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    ours = make_federation(tmp_path / "ours", federation_name)
    theirs = make_federation(tmp_path / "theirs", f"x-{federation_name}")
    async with controller(ours, etcd.address) as home, controller(theirs, etcd.address) as abroad:
        stranger: Identity = await enrol(theirs, abroad.admin, "a", tmp_path / "a")
        gateway = FakeGateway(ClusterId("a"), ours.domain, stranger, [home.grpc])
        gateway.introduce()
        async with gateway.running():
            await soon(lambda: gateway.ended)
            assert gateway.acked == [] and gateway.known == {}


async def test_a_value_that_cannot_be_read_is_named_and_the_others_are_served(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    keys = Keys.of(federation.domain)
    async with EtcdClient(Target((f"http://{etcd.address}",))) as client, controller(federation, etcd.address) as one:
        admin = Admin(federation, one.admin)
        await enrol(federation, one.admin, "a", tmp_path / "a")
        newer = pb.Cluster(schema=99, id="z").SerializeToString()
        await client.put(keys.path(ClusterKey(ClusterId("z"))), newer)

        async def named() -> bool:
            status = await admin.get("/v1/status")
            ready = await admin.get("/readyz")
            return bool(
                [q["key"] for q in status["quarantined"]] == [keys.path(ClusterKey(ClusterId("z")))]
                and "schema 99" in ready["warnings"]["quarantine"]
                and ready["ready"]
                and [c["id"] for c in status["clusters"]] == ["a"]
            )

        await soon(named)
