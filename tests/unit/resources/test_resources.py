"""What the builders promise: stable bytes, small changes, nobody believed by accident."""

import json
from typing import Any, TypeVar

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster as EnvoyCluster
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext
from google.protobuf.message import Message

from isthmus_core.model import (
    AppProtocol,
    CheckKind,
    Cluster,
    Endpoint,
    ExportSpec,
    Gateway,
    HealthCheck,
    LocalService,
    Protocol,
    ServicePort,
    ServiceType,
)
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_core.route import PortRoute, ServiceRoute, Target
from isthmus_gateway.resources import (
    TYPES,
    EnvoySettings,
    Resources,
    Side,
    build_assignments,
    build_bootstrap,
    build_export,
    build_export_assignments,
    build_identity,
    build_ingress,
    build_remote,
    build_remote_assignment,
    build_service,
    build_trust,
    parse_cluster_name,
)
from isthmus_gateway.resources.names import gateway_cluster, local_cluster, service_cluster
from isthmus_gateway.resources.secrets import NOBODY
from isthmus_sync import ENVOY

HERE = Locality("aws", "eu-west-1", "a")
OTHER_ZONE = Locality("aws", "eu-west-1", "b")
THERE = Locality("gcp", "eu-west-4", "b")
A, B, C, D = (ClusterId(name) for name in "abcd")
ECHO = ServiceName("shop", "echo")
WEB = ServicePort("web", 80, app_protocol=AppProtocol.HTTP)
RAW = ServicePort("raw", 6000)
NOTES = ServicePort("notes", 53, Protocol.UDP)
M = TypeVar("M", bound=Message)


def read(kind: type[M], body: bytes) -> M:
    message = kind()
    message.ParseFromString(body)
    return message


def endpoint(address: str, locality: Locality = HERE, ready: bool = True, **ports: int) -> Endpoint:
    return Endpoint(address, locality, ports or {"web": 9001, "raw": 9002}, ready=ready)


def local(*endpoints: Endpoint, check: HealthCheck | None = None) -> LocalService:
    ports = (WEB, RAW, NOTES)
    check = check or HealthCheck()
    return LocalService(ECHO, ServiceType.CLUSTER_SET_IP, ports, endpoints, check, export=ExportSpec())


def routed(*tiers: tuple[Target, ...]) -> ServiceRoute:
    return ServiceRoute(ECHO, tuple(PortRoute(port, tiers) for port in (WEB, RAW, NOTES)), ())


def own(locality: Locality = HERE, weight: int = 1) -> Target:
    return Target(A, locality, weight, True)


def tunnel(cluster: ClusterId = B, weight: int = 7, locality: Locality = THERE) -> Target:
    return Target(cluster, locality, weight, False)


def member(name: ClusterId, *gateways: str) -> Cluster:
    found = tuple(Gateway(f"{name}-{n}", name, address, 15443) for n, address in enumerate(gateways))
    return Cluster(name, THERE, trust_domain=f"{name}.fed.test", gateways=found)


def assignment(route: ServiceRoute, service: LocalService | None, port: int = 80) -> ClusterLoadAssignment:
    return read(ClusterLoadAssignment, build_assignments(route, service)[service_cluster(ECHO, port)])


def test_tiers_become_priorities_with_local_endpoints_direct_and_other_clusters_through_tunnels() -> None:
    found = assignment(routed((own(),), (tunnel(), tunnel(C, 2))), local(endpoint("127.0.0.2"), endpoint("127.0.0.1")))
    near, b, c = found.endpoints
    assert (near.priority, b.priority, c.priority) == (0, 1, 1)
    addresses = [host.endpoint.address.socket_address for host in near.lb_endpoints]
    assert [(a.address, a.port_value) for a in addresses] == [("127.0.0.1", 9001), ("127.0.0.2", 9001)]
    host = b.lb_endpoints[0]
    internal = host.endpoint.address.envoy_internal_address
    assert (internal.server_listener_name, internal.endpoint_id) == ("tunnel/b", "b/shop/echo/80")
    assert host.load_balancing_weight.value == 7
    assert host.endpoint.health_check_config.disable_active_health_check
    fields = host.metadata.filter_metadata["isthmus.tunnel"].fields
    assert fields["destination"].string_value == "echo.shop.svc.clusterset.local:80"


def test_each_port_finds_its_endpoints_by_the_name_of_the_port() -> None:
    service = local(endpoint("127.0.0.1", web=9001, raw=9002), endpoint("127.0.0.2", raw=9003))
    found = assignment(routed((own(),)), service, 6000)
    ports = [host.endpoint.address.socket_address.port_value for host in found.endpoints[0].lb_endpoints]
    assert ports == [9002, 9003]
    assert len(assignment(routed((own(),)), service).endpoints[0].lb_endpoints) == 1


def test_a_tier_without_an_endpoint_leaves_no_gap() -> None:
    found = assignment(routed((own(OTHER_ZONE),), (tunnel(), tunnel(C))), local(endpoint("127.0.0.1")))
    assert [group.priority for group in found.endpoints] == [0, 0]


def test_endpoints_that_are_not_ready_are_left_out() -> None:
    found = assignment(routed((own(),)), local(endpoint("127.0.0.1", ready=False), endpoint("127.0.0.2")))
    assert [h.endpoint.address.socket_address.address for h in found.endpoints[0].lb_endpoints] == ["127.0.0.2"]


def doubted(
    *tiers: tuple[Target, ...], ready: bool, own_endpoints: int = 2, lately: tuple[Target, ...] = ()
) -> ClusterLoadAssignment:
    """The assignment of a port whose last resort is cluster B."""
    route = ServiceRoute(ECHO, (PortRoute(WEB, tiers, (tunnel(),), ready, lately),), ())
    return assignment(route, local(*(endpoint(f"127.0.0.{n}") for n in range(own_endpoints))))


def test_a_last_resort_behind_one_healthy_tier_takes_what_fails_there_and_nothing_else() -> None:
    found = doubted((own(),), ready=True)
    assert [(group.priority, group.lb_endpoints[0].health_status) for group in found.endpoints] == [
        (0, HealthStatus.UNKNOWN),
        (1, HealthStatus.DEGRADED),
    ]
    internal = found.endpoints[1].lb_endpoints[0].endpoint.address.envoy_internal_address
    assert (internal.server_listener_name, internal.endpoint_id) == ("last/b", "b/shop/echo/80")
    assert found.policy.overprovisioning_factor.value >= 100_000, "one healthy endpoint of a thousand keeps everything"


@pytest.mark.parametrize(
    "tiers", [((own(),),), ((own(),), (own(OTHER_ZONE),)), ()], ids=["one tier", "two tiers", "no tiers"]
)
def test_any_other_last_resort_is_for_when_all_are_sick(tiers: tuple[tuple[Target, ...], ...]) -> None:
    found = doubted(*tiers, ready=False)
    assert found.endpoints[-1].priority == len({group.priority for group in found.endpoints}) - 1
    assert found.endpoints[-1].lb_endpoints[0].health_status == HealthStatus.UNHEALTHY
    assert not found.HasField("policy")


def test_a_last_resort_is_left_out_where_ejection_could_leave_nobody_else() -> None:
    assert len(doubted((own(),), ready=True, own_endpoints=1).endpoints) == 1
    assert len(doubted((own(),), (tunnel(C), tunnel(D)), ready=True).endpoints) == 3


def test_there_it_is_for_when_all_are_ejected_if_it_answered_a_moment_ago() -> None:
    found = doubted((own(),), ready=True, own_endpoints=1, lately=(tunnel(),))
    near, last = found.endpoints
    assert (near.priority, last.priority) == (0, 0)
    internal = last.lb_endpoints[0].endpoint.address.envoy_internal_address
    assert (internal.server_listener_name, last.lb_endpoints[0].health_status) == ("last/b", HealthStatus.UNHEALTHY)
    weights = [group.lb_endpoints[0].load_balancing_weight.value for group in found.endpoints]
    assert weights == [1, 1], "however many endpoints the cluster that looks dead has"
    assert found.policy.overprovisioning_factor.value >= 100_000, "a hundred dead clusters are no panic"


def ways(*tiers: tuple[Target, ...], port: ServicePort = WEB, **changes: Any) -> list[tuple[int, str]]:
    """The priority and the listener of each other cluster's endpoint in an assignment."""
    route = ServiceRoute(ECHO, (PortRoute(port, tiers, **changes),), ())
    found = assignment(route, local(endpoint("127.0.0.1")), port.port)
    hosts = [(group.priority, host.endpoint.address) for group in found.endpoints for host in group.lb_endpoints]
    internal = [(priority, where.envoy_internal_address) for priority, where in hosts]
    return [(priority, where.server_listener_name) for priority, where in internal if where.server_listener_name]


def test_the_only_other_cluster_has_a_second_way_that_no_probe_closes() -> None:
    assert ways((own(),), (tunnel(),)) == [(1, "tunnel/b"), (2, "last/b")]
    assert ways((tunnel(),)) == [(0, "tunnel/b"), (1, "last/b")]
    assert ways((tunnel(),), (own(),)) == [(0, "tunnel/b"), (2, "last/b")]


def test_nobody_else_has_one() -> None:
    assert ways((tunnel(), tunnel(C))) == [(0, "tunnel/b"), (0, "tunnel/c")], "there is another to turn to"
    assert ways((own(),)) == []
    assert ways((tunnel(),), port=RAW) == [(0, "tunnel/b")], "nothing of a TCP connection is tried again"
    assert ways((tunnel(),), ready=False) == [(0, "tunnel/b")], "an endpoint that looks healthy would prevent a panic"
    assert ways((tunnel(),), last_resort=(tunnel(C),), lately=(tunnel(C),)) == [(0, "tunnel/b"), (0, "last/c")]


def test_a_service_that_nobody_serves_has_an_empty_assignment() -> None:
    assert not assignment(routed(), None).endpoints


def test_a_change_of_endpoints_changes_one_assignment_and_nothing_else() -> None:
    route = routed((own(),), (tunnel(),))
    before = build_service(route, "127.64.0.1", local(endpoint("127.0.0.1")))
    after = build_service(route, "127.64.0.1", local(endpoint("127.0.0.1"), endpoint("127.0.0.2", web=9001)))
    assert before.clusters == after.clusters and before.listeners == after.listeners
    changed = {name for name in after.endpoints if before.endpoints[name] != after.endpoints[name]}
    assert changed == {service_cluster(ECHO, 80)}
    assert after.endpoints == build_assignments(route, local(endpoint("127.0.0.1"), endpoint("127.0.0.2", web=9001)))


def test_equal_input_gives_equal_bytes_in_any_order() -> None:
    one, two = endpoint("127.0.0.1"), endpoint("127.0.0.2")
    route = routed((own(),), (tunnel(),))
    assert build_service(route, "127.64.0.1", local(one, two)) == build_service(route, "127.64.0.1", local(two, one))
    assert build_export(local(one, two), "/h") == build_export(local(two, one), "/h")
    assert build_trust(b"r", A, [member(B), member(C)]) == build_trust(b"r", A, [member(C), member(B)])


def test_udp_ports_and_headless_services_have_no_resources() -> None:
    assert build_service(routed((own(),)), None) == Resources()
    names = build_service(routed((own(),)), "127.64.0.1", local(endpoint("127.0.0.1"))).clusters
    assert set(names) == {"service/shop/echo/80", "service/shop/echo/6000"}


def test_listeners_stand_on_the_vip_and_may_listen_on_other_ports() -> None:
    found = build_service(routed((tunnel(),)), "127.64.0.1", listen_ports={80: 20080})
    address = read(Listener, found.listeners["egress/shop/echo/80"]).address.socket_address
    assert (address.address, address.port_value) == ("127.64.0.1", 20080)
    kinds = [
        read(Listener, found.listeners[f"egress/shop/echo/{port}"]).filter_chains[0].filters[0].name
        for port in (80, 6000)
    ]
    assert kinds == ["envoy.filters.network.http_connection_manager", "envoy.filters.network.tcp_proxy"]


@pytest.mark.parametrize(
    ("check", "wanted"),
    [
        (HealthCheck(CheckKind.TCP), "tcp_health_check"),
        (HealthCheck(CheckKind.HTTP, "/live"), "http_health_check"),
        (HealthCheck(CheckKind.GRPC), "tcp_health_check"),  # Envoy refuses it where HTTP/2 is not spoken
        (HealthCheck(CheckKind.NONE), None),
    ],
)
def test_an_export_is_checked_and_its_verdicts_are_logged(check: HealthCheck, wanted: str | None) -> None:
    found = build_export(local(endpoint("127.0.0.1"), check=check), "/data/health.log")
    checks = read(EnvoyCluster, found.clusters[local_cluster(ECHO, 80)]).health_checks
    assert [c.WhichOneof("health_checker") for c in checks] == ([wanted] if wanted else [])
    assert all(len(c.event_logger) == 1 for c in checks)


def test_a_check_on_another_port_asks_there() -> None:
    check = HealthCheck(CheckKind.HTTP, "/live", port_name="admin")
    service = local(endpoint("127.0.0.1", web=9001, admin=9900), check=check)
    host = read(ClusterLoadAssignment, build_export_assignments(service)[local_cluster(ECHO, 80)]).endpoints[0]
    assert host.lb_endpoints[0].endpoint.health_check_config.port_value == 9900


def test_verdicts_count_at_once_everywhere() -> None:
    groups = build_service(routed((tunnel(),)), "127.64.0.1") | build_export(local(endpoint("127.0.0.1")), "/h")
    groups |= build_remote(member(B, "127.0.0.5"), A, "/h")
    for name, body in groups.clusters.items():
        config = read(EnvoyCluster, body).common_lb_config
        assert config.HasField("update_merge_window") and config.update_merge_window.ToMilliseconds() == 0, name


def test_a_remote_cluster_is_as_many_resources_whatever_it_serves() -> None:
    found = build_remote(member(B, "127.0.0.5", "127.0.0.6"), A, "/h")
    assert set(found.endpoints) == {gateway_cluster(B)}
    assert set(found.clusters) == {gateway_cluster(B), "last/b"}
    assert set(found.listeners) == {"tunnel/b", "last/b"}
    probed, anyway = (read(EnvoyCluster, found.clusters[name]) for name in (gateway_cluster(B), "last/b"))
    assert probed.health_checks and not anyway.health_checks
    assert anyway.eds_cluster_config.service_name == probed.name
    hosts = read(ClusterLoadAssignment, build_remote_assignment(member(B, "127.0.0.5", "127.0.0.6"))["gateway/b"])
    assert len(hosts.endpoints[0].lb_endpoints) == 2


def names_in(body: bytes) -> list[str]:
    context = read(Secret, body).validation_context
    return [matcher.matcher.exact for matcher in context.match_typed_subject_alt_names]


def test_every_other_member_is_believed_to_be_itself_and_nobody_else() -> None:
    secrets = build_trust(b"roots", A, [member(A), member(B), member(C)])
    assert names_in(secrets["peer/b"]) == ["spiffe://b.fed.test/gateway"]
    assert names_in(secrets["peer/c"]) == ["spiffe://c.fed.test/gateway"]
    assert len(secrets) == 2
    nameless = Cluster(B, THERE)
    assert names_in(build_trust(b"roots", A, [nameless])["peer/b"]) == [NOBODY]


def test_the_identity_is_one_secret() -> None:
    secret = read(Secret, build_identity(b"chain", b"key")["identity"])
    assert secret.tls_certificate.private_key.inline_bytes == b"key"


def doors_of(*callers: ClusterId) -> dict[str, FilterChain]:
    listener = read(Listener, build_ingress("127.0.0.1", 15443, callers)["ingress"])
    return {door.name: door for door in listener.filter_chains}


def test_each_other_member_has_a_door_of_its_own_at_the_ingress() -> None:
    doors = doors_of(C, B)
    assert list(doors) == ["isthmus/b", "isthmus/c"]
    for cluster, (name, door) in zip((B, C), doors.items(), strict=True):
        assert list(door.filter_chain_match.application_protocols) == [name]
        security = DownstreamTlsContext.FromString(door.transport_socket.typed_config.value)
        assert security.require_client_certificate.value
        assert security.common_tls_context.validation_context_sds_secret_config.name == f"peer/{cluster}"
        told = build_remote(member(A, "127.0.0.5"), cluster, "/h").clusters["gateway/a"]
        client = UpstreamTlsContext.FromString(read(EnvoyCluster, told).transport_socket.typed_config.value)
        assert list(client.common_tls_context.alpn_protocols) == ["h2", name]


def test_who_comes_and_goes_changes_no_other_door_of_the_ingress() -> None:
    # Envoy keeps the connections of a door whose message is the same.
    assert doors_of(B, C)["isthmus/c"] == doors_of(C)["isthmus/c"]
    assert build_ingress("127.0.0.1", 15443, [B, C]) == build_ingress("127.0.0.1", 15443, [C, B])


def test_an_ingress_without_other_members_has_a_door_that_leads_nowhere() -> None:
    (door,) = doors_of().values()
    assert not door.filters and not door.HasField("transport_socket")


@pytest.mark.parametrize("name", ["service/shop/echo/80", "local/echo.shop.svc.clusterset.local:80", "gateway/b"])
def test_cluster_names_are_read_back(name: str) -> None:
    found = parse_cluster_name(name)
    assert found is not None
    if found.side is Side.GATEWAY:
        assert found.cluster == B
    else:
        assert (found.service, found.port) == (ECHO, 80)


@pytest.mark.parametrize("name", ["xds", "", "gateway/", "service/shop/echo", "local/echo:80", "service/a/b/c"])
def test_foreign_cluster_names_are_nobodys(name: str) -> None:
    assert parse_cluster_name(name) is None


def test_the_types_are_those_that_the_feed_orders() -> None:
    assert set(TYPES) <= set(ENVOY.additions)
    groups = build_remote(member(B, "127.0.0.5"), A, "/h")
    assert [type_url for type_url, _ in groups.by_type()] == list(TYPES)


def test_the_same_settings_are_the_same_bootstrap_in_every_process() -> None:
    # An Envoy whose bootstrap differs is started again, and the order of a map differs from process to process.
    text = build_bootstrap(EnvoySettings("gw-1", A, "/d/xds.sock", "/d/admin.sock"))
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True)


def test_the_bootstrap_keeps_admin_private_and_asks_the_agent_for_everything() -> None:
    text = json.loads(build_bootstrap(EnvoySettings("gw-1", A, "/d/xds.sock", "/d/admin.sock")))
    assert text["admin"]["address"]["pipe"] == {"path": "/d/admin.sock", "mode": 0o600}
    assert text["node"] == {"id": "gw-1", "cluster": "a"}
    assert text["dynamic_resources"]["ads_config"]["api_type"] == "DELTA_GRPC"
    assert "listeners" not in text["static_resources"]
