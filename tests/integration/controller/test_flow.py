"""From registering a cluster to a service that another cluster sees, with real etcd and real mutual TLS."""

from pathlib import Path

import pytest

from integration.controller.world import ECHO, Admin, FakeGateway, controller, enrol, make_federation, soon
from isthmus_core.names import ClusterId
from isthmus_sync import CAPACITY, CLUSTER, EXPORT_STATUS, IMPORT, TRUST_BUNDLE, codec
from isthmus_sync.proto import isthmus_pb2 as pb
from support.etcd import Etcd

pytestmark = pytest.mark.anyio


async def test_a_service_exported_in_one_cluster_is_seen_in_another_through_two_replicas(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as one, controller(federation, etcd.address) as two:
        ids = {name: await enrol(federation, one.admin, name, tmp_path / name) for name in ("a", "b")}
        a = FakeGateway(ClusterId("a"), federation.domain, ids["a"], [one.grpc])
        b = FakeGateway(ClusterId("b"), federation.domain, ids["b"], [two.grpc])
        async with a.running(), b.running():
            a.introduce()
            b.introduce()
            a.export()
            await soon(lambda: b.names(CAPACITY) == {"shop/echo/a"} and b.names(IMPORT) == {"shop/echo"})
            assert b.names(TRUST_BUNDLE) == {"roots"}
            await soon(lambda: a.names(EXPORT_STATUS) == {"shop/echo"})
            assert b.names(EXPORT_STATUS) == set()

            def held() -> bool:
                cluster = codec.cluster_value(pb.Cluster.FromString(b.body(CLUSTER, "a")))
                return cluster.session_held and [g.id for g in cluster.gateways] == ["g1"]

            await soon(held)
            for replica in (one, two):
                services = (await Admin(federation, replica.admin).get("/v1/services"))["services"]
                assert [(s["service"], s["ready"], s["total"]) for s in services] == [("shop/echo", 2, 2)]
            a.unexport(ECHO)
            await soon(lambda: b.names(CAPACITY) == set() and b.names(IMPORT) == set())
