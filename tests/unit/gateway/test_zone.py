import msgspec

from isthmus_core.model import Capacity, ClusterState, Endpoint, Here, ServicePort, ServiceType
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
    zone = build_zone_service(service, chosen, capacities, clusters, HERE.cluster, "127.80.0.5")
    assert list(zone.ips) == ["127.80.0.5"] and zone.type == pb.CLUSTER_SET_IP and not zone.hosts
    assert [(p.cluster, p.rule, p.stale) for p in zone.provenance] == [
        ("here", "same zone", False),
        ("east", "same zone", True),
    ]


def test_a_service_without_an_address_left_still_exists() -> None:
    service = imported("here")
    zone = build_zone_service(service, route(service, CLUSTERS, {}, HERE), {}, CLUSTERS, HERE.cluster, None)
    assert list(zone.ips) == [] and list(zone.ports)


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
    zone = build_zone_service(service, chosen, capacities, clusters, HERE.cluster, "127.80.0.5")
    assert not zone.ips
    assert [(h.cluster, h.hostname, h.address, h.ports[0].port) for h in zone.hosts] == [
        ("here", "web-0", "10.0.0.1", 8080),
        ("east", "", "10.1.0.1", 8080),
    ]


def test_hosts_have_only_the_ports_that_their_cluster_serves() -> None:
    service = imported("here", kind=ServiceType.HEADLESS)
    two = msgspec.structs.replace(service, ports=(*service.ports, ServicePort("admin", 81)))
    held = {ClusterId("here"): Capacity(ECHO, ClusterId("here"), (), (endpoint("10.0.0.1"),))}
    zone = build_zone_service(two, route(two, CLUSTERS, held, HERE), held, CLUSTERS, HERE.cluster, None)
    assert [p.name for p in zone.hosts[0].ports] == ["http"]


def test_the_serial_never_goes_back() -> None:
    assert next_serial(0, 1_700_000_000) == 1_700_000_000
    assert next_serial(1_700_000_000, 1_700_000_000) == 1_700_000_001
    assert next_serial(1_700_000_500, 1_700_000_000) == 1_700_000_501
    assert next_serial(2**32 - 1, 5) == 0
    assert build_header(HERE.cluster, 7, True, 12).serial == 7
