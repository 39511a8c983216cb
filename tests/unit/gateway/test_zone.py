"""What DNS is told of each service: its address, its endpoints by nearness, and a serial that grows."""

from collections.abc import Mapping

import msgspec

from isthmus_core.dns_mode import ANNOTATION
from isthmus_core.model import Capacity, Cluster, ClusterState, Endpoint, Here, ServicePort, ServiceType
from isthmus_core.names import ClusterId
from isthmus_core.route import route
from isthmus_gateway.zone import build_header, build_zone_service, next_serial
from isthmus_sync.proto import isthmus_pb2 as pb
from support.gateway_values import BERLIN, ECHO, capacity, cluster, imported

HERE = Here(ClusterId("here"), BERLIN)
CLUSTERS = {ClusterId(name): cluster(name) for name in ("here", "east", "west")}


def endpoint(address: str, hostname: str = "", ready: bool = True) -> Endpoint:
    return Endpoint(address, BERLIN, {"http": 8080}, ready=ready, hostname=hostname)


def test_a_service_with_a_vip_has_that_address_and_says_where_it_comes_from() -> None:
    service = imported("here", "east", "west")
    capacities = {ClusterId("here"): capacity("here"), ClusterId("east"): capacity("east")}
    clusters = {**CLUSTERS, ClusterId("east"): cluster("east", held=False)}
    chosen = route(service, clusters, capacities, HERE)
    zone = build_zone_service(service, chosen, capacities, clusters, HERE, "127.80.0.5")
    assert list(zone.ips) == ["127.80.0.5"] and zone.type == pb.CLUSTER_SET_IP and not zone.hosts
    assert [(p.cluster, p.rule, p.tier, p.stale, p.confirmed_at_ms > 0) for p in zone.provenance] == [
        ("here", "same zone", 0, False, False),
        ("east", "same zone", 1, True, True),
    ]


def test_a_service_without_an_address_left_still_exists() -> None:
    service = imported("here")
    zone = build_zone_service(service, route(service, CLUSTERS, {}, HERE), {}, CLUSTERS, HERE, None)
    assert list(zone.ips) == [] and list(zone.ports)
    assert [(p.cluster, p.rule) for p in zone.provenance] == [("", "no cluster can serve it now")]


NETWORK = Here(ClusterId("here"), BERLIN, "lan")
ASKED = {ANNOTATION: "endpoints"}


def near_hosts(
    *exporters: str,
    here: Here = NETWORK,
    clusters: Mapping[ClusterId, Cluster] | None = None,
    endpoints: Mapping[str, tuple[Endpoint, ...]],
) -> list[tuple[str, str, int]]:
    """Cluster, address and tier of what a service in the mode `endpoints` is answered with."""
    service = msgspec.structs.replace(imported(*exporters), annotations=ASKED)
    known = clusters or {name: msgspec.structs.replace(held, network="lan") for name, held in CLUSTERS.items()}
    capacities = {
        ClusterId(name): msgspec.structs.replace(
            capacity(name, sum(e.ready for e in found), len(found)), endpoints=found
        )
        for name, found in endpoints.items()
    }
    chosen = route(service, known, capacities, here)
    zone = build_zone_service(service, chosen, capacities, known, here, "127.80.0.5")
    assert zone.dns_mode == pb.DNS_ENDPOINTS and list(zone.ips) == ["127.80.0.5"]
    assert all(host.ports[0].port == 8080 for host in zone.hosts)
    return [(host.cluster, host.address, host.tier) for host in zone.hosts]


def test_a_service_answered_with_endpoints_lists_the_healthy_ones_of_the_network_by_tier() -> None:
    found = near_hosts(
        *("east", "here"),
        endpoints={
            "east": (endpoint("10.1.0.1"), endpoint("10.1.0.2", ready=False)),
            "here": (endpoint("10.0.0.2"), endpoint("10.0.0.1")),
        },
    )
    assert found == [("here", "10.0.0.1", 0), ("here", "10.0.0.2", 0), ("east", "10.1.0.1", 1)]


def test_endpoints_of_other_networks_and_of_drained_clusters_are_left_out() -> None:
    east, west = (msgspec.structs.replace(cluster(name), network="lan") for name in ("east", "west"))
    endpoints = {"east": (endpoint("10.1.0.1"),), "west": (endpoint("10.2.0.1"),)}

    def found(east: Cluster, here: Here = NETWORK) -> list[str]:
        clusters = {east.id: east, west.id: west}
        return [host[0] for host in near_hosts("east", "west", here=here, clusters=clusters, endpoints=endpoints)]

    assert found(east) == ["east", "west"]
    assert found(msgspec.structs.replace(east, network="wan")) == ["west"]
    assert found(msgspec.structs.replace(east, state=ClusterState.DRAINING)) == ["west"]
    assert found(east, HERE) == [], "who is in no network reaches no endpoint of another cluster"
    assert found(msgspec.structs.replace(east, network=""), HERE) == [], "to be in none is no network in common"


def test_a_service_that_does_not_ask_for_it_lists_no_endpoints() -> None:
    service = imported("here")
    capacities = {ClusterId("here"): Capacity(ECHO, ClusterId("here"), (), (endpoint("10.0.0.1"),))}
    words: tuple[dict[str, str], ...] = ({}, {ANNOTATION: "gateway"}, {ANNOTATION: "of a later release"})
    for annotations in words:
        asked = msgspec.structs.replace(service, annotations=annotations)
        chosen = route(asked, CLUSTERS, capacities, HERE)
        zone = build_zone_service(asked, chosen, capacities, CLUSTERS, NETWORK, "127.80.0.5")
        assert zone.dns_mode == pb.DNS_GATEWAY and not zone.hosts


def test_a_headless_service_has_its_ready_endpoints_with_their_own_ports() -> None:
    service = imported("here", "east", "west", kind=ServiceType.HEADLESS)
    ready, tired = endpoint("10.0.0.1", "web-0"), endpoint("10.0.0.2", ready=False)
    capacities = {
        ClusterId("here"): Capacity(ECHO, ClusterId("here"), (), (ready, tired)),
        ClusterId("east"): Capacity(ECHO, ClusterId("east"), (), (endpoint("10.1.0.1"),)),
        ClusterId("west"): Capacity(ECHO, ClusterId("west"), (), (endpoint("10.2.0.1"),)),
    }
    clusters = {**CLUSTERS, ClusterId("west"): cluster("west", ClusterState.DRAINING)}
    chosen = route(service, clusters, capacities, HERE)
    zone = build_zone_service(service, chosen, capacities, clusters, HERE, "127.80.0.5")
    assert not zone.ips
    assert [(h.cluster, h.hostname, h.address, h.ports[0].port) for h in zone.hosts] == [
        ("here", "web-0", "10.0.0.1", 8080),
        ("east", "", "10.1.0.1", 8080),
    ]


def test_a_cluster_that_is_drained_still_answers_its_own_clients_with_its_headless_endpoints() -> None:
    service = imported("here", kind=ServiceType.HEADLESS)
    held = {ClusterId("here"): Capacity(ECHO, ClusterId("here"), (), (endpoint("10.0.0.1"),))}
    drained = {ClusterId("here"): cluster("here", ClusterState.DRAINING)}
    zone = build_zone_service(service, route(service, drained, held, HERE), held, drained, HERE, None)
    assert [host.address for host in zone.hosts] == ["10.0.0.1"]


def test_hosts_have_only_the_ports_that_their_cluster_serves() -> None:
    service = imported("here", kind=ServiceType.HEADLESS)
    two = msgspec.structs.replace(service, ports=(*service.ports, ServicePort("admin", 81)))
    held = {ClusterId("here"): Capacity(ECHO, ClusterId("here"), (), (endpoint("10.0.0.1"),))}
    zone = build_zone_service(two, route(two, CLUSTERS, held, HERE), held, CLUSTERS, HERE, None)
    assert [p.name for p in zone.hosts[0].ports] == ["http"]


def test_the_serial_never_goes_back() -> None:
    assert next_serial(0, 1_700_000_000) == 1_700_000_000
    assert next_serial(1_700_000_000, 1_700_000_000) == 1_700_000_001
    assert next_serial(1_700_000_500, 1_700_000_000) == 1_700_000_501
    assert next_serial(2**32 - 1, 5) == 0
    assert build_header(HERE.cluster, 7, True, 12).serial == 7
