"""Routing: nearest first, every candidate with its reason."""

from collections.abc import Mapping

import msgspec
import pytest

from isthmus_core.model import (
    AppProtocol,
    Capacity,
    Cluster,
    ClusterState,
    Exporter,
    Gateway,
    Here,
    Import,
    ServicePort,
    ServiceType,
    ZoneCapacity,
)
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_core.route import Rank, ServiceRoute, Target, rank, route

SERVICE = ServiceName("shop", "echo")
HTTP = ServicePort("http", 80)
HOME = Locality("aws", "eu-west-1", "a")
HERE = Here(ClusterId("home"), HOME)


def cluster(name: str, locality: str, **changes: object) -> Cluster:
    made = Cluster(
        ClusterId(name),
        Locality.parse(locality),
        gateways=(Gateway("g", ClusterId(name), "127.0.0.1", 15443),),
        session_held=True,
    )
    return msgspec.structs.replace(made, **changes)


def capacity(name: str, locality: str, ready: int, total: int | None = None) -> Capacity:
    zone = ZoneCapacity(Locality.parse(locality), ready, ready if total is None else total)
    return Capacity(SERVICE, ClusterId(name), (zone,))


def decide(
    clusters: list[Cluster],
    capacities: list[Capacity],
    unreachable: frozenset[ClusterId] = frozenset(),
    ports: tuple[ServicePort, ...] = (HTTP,),
    served: Mapping[str, tuple[str, ...]] | None = None,
    lately: frozenset[ClusterId] = frozenset(),
) -> ServiceRoute:
    exporters = tuple(Exporter(c.id, (served or {}).get(c.id, ("http",))) for c in clusters)
    imported = Import(SERVICE, ServiceType.CLUSTER_SET_IP, ports, exporters)
    return route(imported, {c.id: c for c in clusters}, {c.cluster: c for c in capacities}, HERE, unreachable, lately)


def names(decided: ServiceRoute, port: int = 0) -> list[list[str]]:
    return [[target.cluster for target in tier] for tier in decided.ports[port].tiers]


def why(decided: ServiceRoute, name: str) -> str:
    return next(c.why for c in decided.candidates if c.cluster == name)


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ("aws/eu-west-1/a", Rank.SAME_ZONE),
        ("AWS/EU-West-1/A", Rank.SAME_ZONE),
        ("aws/eu-west-1/b", Rank.SAME_REGION),
        ("aws/us-east-1/a", Rank.SAME_PROVIDER),
        ("gcp/eu-west-1/a", Rank.ANYWHERE),
    ],
)
def test_nearness_goes_by_provider_then_region_then_zone(there: str, expected: Rank) -> None:
    assert rank(HOME, Locality.parse(there)) is expected


def test_tiers_go_from_the_same_zone_to_anywhere() -> None:
    places = {"home": "aws/eu-west-1/a", "region": "aws/eu-west-1/b", "far": "gcp/x/y", "provider": "aws/us-east-1/a"}
    decided = decide([cluster(n, p) for n, p in places.items()], [capacity(n, p, 1) for n, p in places.items()])
    assert names(decided) == [["home"], ["region"], ["provider"], ["far"]]
    assert [c.tier for c in decided.candidates] == [0, 1, 2, 3]


def test_own_endpoints_come_before_a_tunnel_to_the_same_zone() -> None:
    decided = decide(
        [cluster("twin", str(HOME)), cluster("home", str(HOME))],
        [capacity("twin", str(HOME), 5), capacity("home", str(HOME), 1)],
    )
    assert names(decided) == [["home"], ["twin"]]


def test_the_weight_of_a_remote_cluster_is_its_healthy_capacity() -> None:
    decided = decide(
        [cluster("b", "gcp/x/y"), cluster("c", "azure/x/y")],
        [capacity("b", "gcp/x/y", 3, 9), capacity("c", "azure/x/y", 7)],
    )
    assert decided.ports[0].tiers == (
        (
            Target(ClusterId("b"), Locality("gcp", "x", "y"), 3, False),
            Target(ClusterId("c"), Locality("azure", "x", "y"), 7, False),
        ),
    )


def test_sick_own_endpoints_keep_their_tier_because_our_envoy_checks_them() -> None:
    decided = decide(
        [cluster("home", str(HOME)), cluster("b", "gcp/x/y")],
        [capacity("home", str(HOME), 0, 2), capacity("b", "gcp/x/y", 1)],
    )
    assert names(decided) == [["home"], ["b"]]
    assert decided.ports[0].tiers[0][0].weight == 2, "the sick count: who is passed over is Envoy's to say"
    assert "0 of 2 ready" in why(decided, "home")


@pytest.mark.parametrize(
    ("change", "ready", "total", "reason"),
    [
        ({"state": ClusterState.DRAINING}, 1, 1, "draining"),
        ({"gateways": ()}, 1, 1, "gateways"),
        ({}, 0, 0, "no endpoints"),
    ],
)
def test_a_cluster_that_cannot_serve_is_left_out_and_says_why(
    change: dict[str, object], ready: int, total: int, reason: str
) -> None:
    decided = decide([cluster("b", "gcp/x/y", **change)], [capacity("b", "gcp/x/y", ready, total)])
    assert names(decided) == [] and not decided.ports[0].last_resort
    assert reason in why(decided, "b")


def test_a_cluster_of_unknown_capacity_gets_no_traffic_yet() -> None:
    decided = decide([cluster("b", "gcp/x/y")], [])
    assert names(decided) == []
    assert "not known yet" in why(decided, "b")


@pytest.mark.parametrize(
    ("ready", "unreachable", "reason"),
    [
        (2, frozenset({ClusterId("b")}), "its gateways do not answer from here: last resort"),
        (0, frozenset(), "none of its 2 endpoints is healthy: last resort"),
        (0, frozenset({ClusterId("b")}), "none of its 2 endpoints is healthy: last resort"),
    ],
)
def test_a_cluster_that_looks_dead_is_the_last_resort(
    ready: int, unreachable: frozenset[ClusterId], reason: str
) -> None:
    decided = decide([cluster("b", "gcp/x/y")], [capacity("b", "gcp/x/y", ready, 2)], unreachable)
    assert names(decided) == []
    assert decided.ports[0].last_resort == (Target(ClusterId("b"), Locality("gcp", "x", "y"), 2, False),)
    assert why(decided, "b") == reason
    assert not decided.ports[0].ready


@pytest.mark.parametrize("ready", [0, 1])
def test_a_port_with_a_last_resort_tells_whether_anybody_before_it_is_healthy(ready: int) -> None:
    clusters = [cluster("home", str(HOME)), cluster("b", "gcp/x/y")]
    capacities = [capacity("home", str(HOME), ready, 1), capacity("b", "gcp/x/y", 1)]
    assert decide(clusters, capacities, frozenset({ClusterId("b")})).ports[0].ready == bool(ready)
    assert decide(clusters, capacities).ports[0].ready, "without a last resort it is not asked"


def test_a_cluster_that_answered_a_moment_ago_is_named_beside_the_only_tier_of_an_http_port() -> None:
    b = frozenset({ClusterId("b")})
    clusters = [cluster("home", str(HOME)), cluster("b", "gcp/x/y"), cluster("c", "gcp/x/z")]
    capacities = [capacity("home", str(HOME), 1), capacity("b", "gcp/x/y", 1), capacity("c", "gcp/x/z", 1)]
    web, raw = ServicePort("http", 80, app_protocol=AppProtocol.HTTP), ServicePort("http", 81)

    def hopeful(several: int, lately: frozenset[ClusterId], port: ServicePort) -> list[ClusterId]:
        decided = decide(clusters[:several], capacities[:several], b, ports=(port,), lately=lately).ports[0]
        assert [target.cluster for target in decided.last_resort] == ["b"]
        return [target.cluster for target in decided.lately]

    assert hopeful(2, b, web) == ["b"]
    assert hopeful(2, b, raw) == [], "what is connected to a cluster that is gone cannot move"
    assert hopeful(2, frozenset(), web) == [], "it has not answered for long"
    assert hopeful(3, b, web) == [], "there is another tier"


def test_only_who_serves_the_port_is_its_last_resort() -> None:
    ports = (HTTP, ServicePort("raw", 81))
    served = {"b": ("http",), "c": ("raw",)}
    clusters = [cluster("b", "gcp/x/y"), cluster("c", "gcp/x/y")]
    capacities = [capacity("b", "gcp/x/y", 0, 1), capacity("c", "gcp/x/y", 0, 1)]
    decided = decide(clusters, capacities, ports=ports, served=served)
    assert [[target.cluster for target in port.last_resort] for port in decided.ports] == [["b"], ["c"]]


@pytest.mark.parametrize("name", ["home", "b"])
def test_a_cluster_whose_ports_are_all_in_conflict_gets_no_traffic(name: str) -> None:
    clusters = [cluster("home", str(HOME)), cluster("b", "gcp/x/y")]
    capacities = [capacity("home", str(HOME), 1), capacity("b", "gcp/x/y", 1)]
    other = "b" if name == "home" else "home"
    decided = decide(clusters, capacities, served={name: ()})
    assert names(decided) == [[other]]
    assert [c.cluster for c in decided.candidates if c.chosen] == [other]
    assert why(decided, name).startswith("its ports conflict with those of an older export")


def test_losing_the_session_of_a_cluster_changes_nothing_but_the_words() -> None:
    decided = decide([cluster("b", "gcp/x/y", session_held=False)], [capacity("b", "gcp/x/y", 1)])
    assert names(decided) == [["b"]]
    assert "last known state" in why(decided, "b")


def test_traffic_leaves_a_cluster_that_is_drained_but_its_own_clients_keep_a_last_resort() -> None:
    clusters = [cluster("home", str(HOME), state=ClusterState.DRAINING), cluster("b", "gcp/x/y")]
    decided = decide(clusters, [capacity("home", str(HOME), 1), capacity("b", "gcp/x/y", 1)])
    assert names(decided) == [["b"], ["home"]]


def test_only_clusters_that_serve_a_port_get_its_traffic_and_tiers_have_no_gaps() -> None:
    metrics = ServicePort("metrics", 9090)
    decided = decide(
        [cluster("home", str(HOME)), cluster("b", "gcp/x/y")],
        [capacity("home", str(HOME), 1), capacity("b", "gcp/x/y", 1)],
        ports=(HTTP, metrics),
        served={"home": ("http",), "b": ("http", "metrics")},
    )
    assert names(decided, 0) == [["home"], ["b"]]
    assert names(decided, 1) == [["b"]]
