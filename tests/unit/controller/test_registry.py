"""The registry merges what stands in etcd and tells exactly what changed."""

from collections.abc import Mapping

from isthmus_controller.registry import Published, Registry
from isthmus_controller.store.keys import (
    ClusterKey,
    EndpointsKey,
    ExportKey,
    GatewayKey,
    Key,
    Keys,
    SessionKey,
    TokenKey,
    TrustKey,
)
from isthmus_controller.store.values import Change
from isthmus_core.model import (
    AppProtocol,
    Capacity,
    Cluster,
    ClusterState,
    Export,
    Gateway,
    ServicePort,
    ServiceType,
    ZoneCapacity,
)
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb

A, B, C = ClusterId("a"), ClusterId("b"), ClusterId("c")
ECHO = ServiceName("shop", "echo")
HTTP = ServicePort("http", 80, app_protocol=AppProtocol.HTTP)


KEYS = Keys.of("fed.example")


def at(key: Key, body: bytes, revision: int = 1) -> Change:
    return Change(KEYS.path(key), body, revision, revision)


def cluster(name: ClusterId, state: ClusterState = ClusterState.ACTIVE) -> Change:
    value = Cluster(name, Locality("aws", "eu", name), trust_domain=f"{name}.fed.example", state=state)
    return at(ClusterKey(name), codec.cluster_message(value).SerializeToString())


def gateway(name: ClusterId, number: int = 1) -> Change:
    value = Gateway(f"g{number}", name, f"127.52.0.{number}", 15443)
    return at(GatewayKey(name, f"g{number}"), codec.gateway_message(value).SerializeToString())


def session(name: ClusterId, number: int = 1, since: int = 7_000) -> Change:
    body = pb.Session(held=True, since_ms=since).SerializeToString()
    return at(SessionKey(name, f"g{number}"), body)


def export(name: ClusterId, revision: int = 5, service: ServiceName = ECHO, port: ServicePort = HTTP) -> Change:
    value = Export(service, name, ServiceType.CLUSTER_SET_IP, (port,))
    return at(ExportKey(service, name), codec.export_message(value).SerializeToString(), revision)


def capacity(name: ClusterId, ready: int = 3, service: ServiceName = ECHO) -> Change:
    value = Capacity(service, name, (ZoneCapacity(Locality("aws", "eu", name), ready, 3),))
    return at(EndpointsKey(service, name), codec.capacity_message(value).SerializeToString())


def gone(change: Change) -> Change:
    return Change(change.key, None, 99)


def touched(published: list[Published]) -> set[tuple[str, str]]:
    return {(p.type_url.removeprefix(codec.PREFIX), p.name) for p in published}


def two_clusters() -> Registry:
    registry = Registry(KEYS)
    registry.apply([cluster(A), cluster(B), gateway(A), gateway(B), session(A), session(B), export(A), capacity(A)])
    return registry


def conditions(published: list[Published], owner: ClusterId) -> Mapping[str, tuple[bool, str]]:
    body = next(p.body for p in published if p.type_url == codec.EXPORT_STATUS and p.audience == owner)
    assert body is not None
    return {c.type: (c.status, c.reason) for c in codec.status_value(pb.ExportStatus.FromString(body))[1]}


def test_an_export_becomes_an_import_and_its_owner_is_told() -> None:
    registry = Registry(KEYS)
    registry.apply([cluster(A)])
    published = registry.apply([export(A), capacity(A)])
    assert touched(published) == {("Import", "shop/echo"), ("ExportStatus", "shop/echo"), ("Capacity", "shop/echo/a")}
    assert [p.audience for p in published if p.type_url == codec.EXPORT_STATUS] == [A]
    assert conditions(published, A) == {
        "Valid": (True, "Valid"),
        "Ready": (True, "Exported"),
        "Conflict": (False, "NoConflicts"),
    }


def test_a_change_of_capacity_touches_exactly_one_resource() -> None:
    published = two_clusters().apply([capacity(A, ready=2)])
    assert touched(published) == {("Capacity", "shop/echo/a")}
    assert len(published) == 1


def test_the_bytes_that_a_cluster_sent_are_the_bytes_that_others_get() -> None:
    change = capacity(A, ready=1)
    published = two_clusters().apply([change])
    assert published[0].body is change.value


def test_the_same_value_again_tells_nobody_anything() -> None:
    assert two_clusters().apply([capacity(A), export(A), cluster(A)]) == []


def test_a_lost_session_changes_only_the_session() -> None:
    registry = two_clusters()
    published = registry.apply([gone(session(A))])
    assert touched(published) == {("Cluster", "a")}
    assert published[0].body is not None
    known = codec.cluster_value(pb.Cluster.FromString(published[0].body))
    assert not known.session_held
    assert [g.id for g in known.gateways] == ["g1"]
    assert ECHO in registry.merged and registry.capacities(ECHO)[A].ready == 3


def test_a_cluster_is_held_while_one_of_its_gateways_is_connected() -> None:
    registry = two_clusters()
    registry.apply([gateway(A, 2), session(A, 2, since=9_000)])
    registry.apply([gone(session(A))])
    assert registry.clusters[A].session_held
    assert registry.clusters[A].session_since_ms == 9_000
    registry.apply([at(SessionKey(A, "g2"), pb.Session(held=False, since_ms=9_500).SerializeToString())])
    assert (registry.clusters[A].session_held, registry.clusters[A].session_since_ms) == (False, 9_500)


def test_an_export_counts_only_while_its_cluster_is_a_member() -> None:
    registry = Registry(KEYS)
    assert registry.apply([export(A), capacity(A)]) == []
    assert registry.orphans() == [ExportKey(ECHO, A), EndpointsKey(ECHO, A)]
    assert ("Import", "shop/echo") in touched(registry.apply([cluster(A)]))
    published = registry.apply([gone(cluster(A))])
    assert all(p.body is None for p in published)
    assert touched(published) == {
        ("Cluster", "a"),
        ("Import", "shop/echo"),
        ("ExportStatus", "shop/echo"),
        ("Capacity", "shop/echo/a"),
    }


def test_the_age_of_an_export_is_the_revision_that_etcd_gave_it() -> None:
    registry = two_clusters()
    published = registry.apply([export(B, revision=4, port=ServicePort("http", 8080))])
    assert [e.cluster for e in registry.merged[ECHO].service.exporters] == ["b", "a"]
    assert conditions(published, A)["Conflict"] == (True, "PortConflict")
    assert conditions(published, B)["Conflict"] == (True, "PortConflict")


def test_a_drained_cluster_is_told_to_all_and_nothing_else_changes() -> None:
    assert touched(two_clusters().apply([cluster(A, ClusterState.DRAINING)])) == {("Cluster", "a")}


def test_a_value_that_cannot_be_read_is_quarantined_and_the_rest_goes_on() -> None:
    registry = two_clusters()
    published = registry.apply([at(ExportKey(ECHO, B), b"\xff\xff"), capacity(A, ready=1)])
    assert list(registry.quarantined) == [KEYS.path(ExportKey(ECHO, B))]
    assert touched(published) == {("ExportStatus", "shop/echo"), ("Capacity", "shop/echo/a")}
    assert conditions(published, B)["Ready"] == (False, "Failed")
    registry.apply([export(B)])
    assert registry.quarantined == {}


def test_a_value_of_a_newer_release_is_quarantined_with_both_numbers() -> None:
    newer = pb.Cluster(schema=codec.SCHEMA + 1, id="c", locality=pb.Locality(provider="x", region="y", zone="z"))
    registry = two_clusters()
    assert registry.apply([at(ClusterKey(C), newer.SerializeToString())]) == []
    assert "schema 2" in registry.quarantined[KEYS.path(ClusterKey(C))]


def test_a_key_of_the_wrong_shape_or_a_value_of_another_key_is_quarantined() -> None:
    registry = two_clusters()
    value = cluster(A).value
    bad = [f"{KEYS.root}{path}" for path in ("clusters/a/b", "clusters/c", "exports/x", "wishes/w")]
    registry.apply([Change(key, value, 1, 1) for key in bad])
    assert sorted(registry.quarantined) == bad[:1] + bad[1:]
    registry.apply([Change(key, None, 2) for key in bad])
    assert registry.quarantined == {}


def test_keys_of_other_folders_are_passed_over() -> None:
    registry = two_clusters()
    assert registry.apply([at(TokenKey("abc"), b"x"), at(TrustKey("root"), b"x")]) == []
    assert registry.quarantined == {}
