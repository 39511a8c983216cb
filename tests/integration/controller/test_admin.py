"""The admin API over real HTTPS: who may ask, what is refused and with which sentence."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from integration.controller.world import ANONYMOUS, HOST, Admin, FakeGateway, controller, enrol, make_federation, soon
from isthmus_controller.settings import Addresses, Listen
from isthmus_controller.trust import NewFederation
from isthmus_core.names import ClusterId
from support.addresses import free_port
from support.etcd import Etcd

pytestmark = pytest.mark.anyio


@pytest.fixture
def federation(tmp_path: Path, federation_name: str) -> NewFederation:
    return make_federation(tmp_path / "controller", federation_name)


@pytest.fixture
async def replica(etcd: Etcd, federation: NewFederation) -> AsyncIterator[Addresses]:
    async with controller(federation, etcd.address) as addresses:
        yield addresses


@pytest.fixture
def admin(federation: NewFederation, replica: Addresses) -> Admin:
    return Admin(federation, replica.admin)


async def test_admins_alone_may_ask_and_the_others_are_told_why(
    federation: NewFederation, replica: Addresses, tmp_path: Path
) -> None:
    anonymous = Admin(federation, replica.admin, ANONYMOUS)
    status, answer = await anonymous.ask("GET", "/v1/clusters")
    assert status == 401 and "admin certificate" in answer["error"] and answer["mend"]
    identity = await enrol(federation, replica.admin, "a", tmp_path / "a")
    (tmp_path / "leaf.pem").write_bytes(identity.chain)
    (tmp_path / "leaf.key").write_bytes(identity.key)
    gateway = Admin(federation, replica.admin, (tmp_path / "leaf.pem", tmp_path / "leaf.key"))
    status, answer = await gateway.ask("DELETE", "/v1/clusters/a")
    assert status == 403 and "no admin certificate" in answer["error"]
    for path in ("/v1/root", "/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert (await anonymous.ask("GET", path))[0] == 200, path


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v1/tokens", {"cluster": "a", "localty": "x"}, 400, "Did you mean 'locality'?"),
        ("POST", "/v1/tokens", {"cluster": "a"}, 400, "missing required field `locality`"),
        ("POST", "/v1/tokens", {"cluster": 7, "locality": "a/b/c"}, 400, "expected `str`"),
        ("POST", "/v1/tokens", {"cluster": "A_b", "locality": "a/b/c"}, 400, "not a DNS label"),
        ("POST", "/v1/tokens", {"cluster": "controller", "locality": "a/b/c"}, 400, "reserved"),
        ("POST", "/v1/tokens", {"cluster": "a", "locality": "aws"}, 400, "provider/region/zone"),
        ("POST", "/v1/tokens", {"cluster": "a", "locality": "a/b/c", "network": "/"}, 400, "network"),
        ("POST", "/v1/tokens", {"cluster": "a", "locality": "a/b/c", "ttl_minutes": 0}, 400, "0 minutes"),
        ("POST", "/v1/tokens", b"{", 400, "no JSON"),
        ("POST", "/v1/tokens", b"[1]", 400, "expected `object`"),
        ("POST", "/v1/tokens", b'"' + b"x" * 70_000 + b'"', 413, "larger than"),
        ("POST", "/v1/enrol", {"token": "isthmus-join-v1.abc", "csr": ""}, 400, "malformed"),
        ("POST", "/v1/enrol", {"token": "hello", "csr": ""}, 400, "not a join token"),
        ("GET", "/v1/clusters/nobody", None, 404, "no cluster 'nobody'"),
        ("POST", "/v1/clusters/nobody/drain", None, 404, "no cluster 'nobody'"),
        ("DELETE", "/v1/clusters/nobody", None, 404, "no cluster 'nobody'"),
        ("GET", "/v1/services/shop/echo", None, 404, "no cluster exports shop/echo"),
        ("GET", "/v1/services/shop/Echo", None, 400, "DNS label"),
        ("GET", "/v1/explain/shop/echo", None, 400, "'from' is missing"),
        ("GET", "/v1/endpoints?servce=shop/echo", None, 400, "Did you mean 'service'?"),
        ("GET", "/v1/status?wait=soon", None, 400, "not a number"),
        ("GET", "/v1/nothing", None, 404, "there is no /v1/nothing"),
        ("PUT", "/v1/clusters", None, 405, "does not take PUT"),
    ],
)
async def test_bad_requests_get_one_sentence(
    admin: Admin, method: str, path: str, body: Any, status: int, words: str
) -> None:
    raw = body if isinstance(body, bytes) else None
    got, answer = await admin.ask(method, path, None if raw else body, raw)
    assert got == status
    assert words in f"{answer['error']}. {answer['mend']}"


async def test_every_route_is_in_the_openapi_document(admin: Admin) -> None:
    document = await admin.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    described = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert described == {
        ("POST", "/v1/enrol"),
        ("GET", "/v1/root"),
        ("GET", "/v1/clusters"),
        ("POST", "/v1/clusters"),
        ("GET", "/v1/clusters/{id}"),
        ("DELETE", "/v1/clusters/{id}"),
        ("POST", "/v1/clusters/{id}/drain"),
        ("POST", "/v1/clusters/{id}/undrain"),
        ("POST", "/v1/tokens"),
        ("GET", "/v1/services"),
        ("GET", "/v1/services/{namespace}/{name}"),
        ("GET", "/v1/endpoints"),
        ("GET", "/v1/exports"),
        ("GET", "/v1/explain/{namespace}/{name}"),
        ("GET", "/v1/status"),
    }
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    assert [path for method, path in sorted(described) if f"`{method} {path}" not in page] == []
    enrol_operation = document["paths"]["/v1/enrol"]["post"]
    assert enrol_operation["security"] == []
    reference = enrol_operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert document["components"]["schemas"][reference.rpartition("/")[2]]["required"] == ["token", "csr"]


async def test_status_names_each_replica_where_it_listens_though_all_advertise_all(
    etcd: Etcd, federation: NewFederation
) -> None:
    wheres = [Listen(HOST, free_port(HOST)) for _ in range(2)]
    everybody = tuple(map(str, wheres))
    first, second = (
        controller(federation, etcd.address, admin=where, advertise_admin=everybody, advertise_grpc=everybody)
        for where in wheres
    )
    async with first, second:

        async def told() -> bool:
            statuses = [await Admin(federation, where).get("/v1/status") for where in everybody]
            return [{(r["admin"], r["self"]) for r in status["replicas"]} for status in statuses] == [
                {(where, where == own) for where in everybody} for own in everybody
            ]

        await soon(told)


async def test_status_names_everything_and_tells_news_when_there_is_some(
    admin: Admin, federation: NewFederation, replica: Addresses, tmp_path: Path
) -> None:
    first = await admin.get("/v1/status")
    assert (first["domain"], first["ready"], first["clusters"]) == (federation.domain, True, [])
    identity = await enrol(federation, replica.admin, "a", tmp_path / "a")
    known = (await admin.get(f"/v1/status?wait={first['revision']}&timeout=5"))["revision"]
    assert known > first["revision"]
    gateway = FakeGateway(ClusterId("a"), federation.domain, identity, [replica.grpc])
    async with gateway.running():
        gateway.introduce()
        gateway.export()
        await soon(lambda: gateway.known.get("type.googleapis.com/isthmus.v1.ExportStatus"))

        async def told() -> bool:
            status = await admin.get("/v1/status")
            [cluster] = status["clusters"]
            return bool(
                cluster["state"] == "healthy"
                and cluster["session_held"]
                and cluster["fresh"]
                and cluster["services"] == 1
                and (status["services"], status["exports"], status["conflicts"]) == (1, 1, [])
                and status["etcd"][0]["healthy"]
                and [r["self"] for r in status["replicas"]] == [True]
            )

        await soon(told)
        [export] = (await admin.get("/v1/exports"))["exports"]
        assert {c["type"]: c["status"] for c in export["conditions"]} == {
            "Valid": True,
            "Ready": True,
            "Conflict": False,
        }
        [endpoint] = (await admin.get("/v1/endpoints?service=shop/echo"))["endpoints"]
        assert (endpoint["cluster"], endpoint["ready"], endpoint["total"]) == ("a", 2, 2)
        explained = await admin.get("/v1/explain/shop/echo?from=a")
        assert [(c["cluster"], c["tier"], c["chosen"]) for c in explained["candidates"]] == [("a", 0, True)]
        status, cluster = await admin.ask("POST", "/v1/clusters/a/drain")
        assert (status, cluster["state"], cluster["unserved"]) == (200, "draining", ["shop/echo"])
        assert (await admin.get("/v1/status"))["unserved"] == ["shop/echo"]
        status, cluster = await admin.ask("POST", "/v1/clusters/a/undrain")
        assert (status, cluster["state"]) == (200, "healthy")
        metrics = (await admin.ask("GET", "/metrics"))[1]
        for name in (
            'isthmus_streams{cluster="a",kind="exports"} 1.0',
            "isthmus_sessions 1.0",
            "isthmus_services 1.0",
            "isthmus_quarantined_keys 0.0",
            "isthmus_etcd_transaction_seconds_count",
            "isthmus_propagation_seconds_count",
        ):
            assert name in metrics, name
