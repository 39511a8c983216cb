"""What clients of this cluster meet: a listener on each service's VIP, and the Envoy cluster that chooses for them."""

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.core.v3.backoff_pb2 import BackoffStrategy
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions, KeepaliveSettings
from envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions as CommonHttpOptions
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from envoy.type.v3.hash_policy_pb2 import HashPolicy

from isthmus_core.model import AppProtocol, HealthCheck, LocalService, Protocol, ServicePort
from isthmus_core.names import ServiceName
from isthmus_core.route import ServiceRoute
from isthmus_gateway.resources import names
from isthmus_gateway.resources.assignments import build_assignments
from isthmus_gateway.resources.bootstrap import HTTP_OPTIONS
from isthmus_gateway.resources.checks import active_checks, balancing, circuit_breakers, outliers
from isthmus_gateway.resources.encode import Resources, ads, encoded, milliseconds, no, number, packed
from isthmus_gateway.resources.flow import CONNECTION_WINDOW, STREAM_WINDOW, without_guards
from isthmus_gateway.resources.http import MAX_HEADERS, http1, http_connections
from isthmus_gateway.resources.transport import with_destination

IDLE_MS = 3_600_000

HTTP1_IDLE_MS = 4_000
"""How long an HTTP/1.1 connection to an endpoint is kept for the next request.

It must be us who close it: a request that meets a server which is closing is lost, and a POST must not be sent twice.
Through a tunnel the server's end of the connection takes a round trip to tell. Node, uvicorn, Apache close after 5 s.
"""

HTTP2_IDLE_MS = 60_000
"""HTTP/2 says which requests were not looked at when it ends (GOAWAY); those are sent again."""

PING_MS, PING_PATIENCE_MS = 330_000, 5_000
"""In the end, streams at a process that is frozen or a host that is gone are given up.

A gRPC server ends a connection with all its calls at the third ping in a row that comes within five minutes and before
it has said something (gRFC A8, "too_many_pings"), so a call that is quiet for long would not survive quicker pings.
"""

CLIENT_IP = "ClientIP"


def build_service(
    route: ServiceRoute,
    vip: str | None,
    local: LocalService | None = None,
    session_affinity: str = "None",
    listen_ports: dict[int, int] | None = None,
) -> Resources:
    """Listeners, clusters and assignments of one imported service; without a VIP (headless) there is nothing to do.

    `local` is this cluster's own service of the same name, exported or not. `listen_ports` maps service ports to the
    ports on which Envoy listens where they differ (Kubernetes: behind a derived Service).
    """
    if vip is None:
        return Resources()
    check = local.health_check if local else HealthCheck()
    ports = [p.port for p in route.ports if p.port.protocol is Protocol.TCP]
    sticky = session_affinity == CLIENT_IP
    return Resources(
        clusters={
            names.service_cluster(route.service, port.port): encoded(_cluster(route.service, port, check, sticky))
            for port in ports
        },
        endpoints=build_assignments(route, local),
        listeners={
            names.egress_listener(route.service, port.port): encoded(
                _listener(route.service, port, vip, (listen_ports or {}).get(port.port, port.port), sticky)
            )
            for port in ports
        },
    )


def _cluster(service: ServiceName, port: ServicePort, check: HealthCheck, sticky: bool) -> Cluster:
    message = Cluster(
        name=names.service_cluster(service, port.port),
        type=Cluster.EDS,
        eds_cluster_config=Cluster.EdsClusterConfig(eds_config=ads()),
        connect_timeout=milliseconds(1_000),
        # Envoy counts requests, not connections: least request means nothing to a TCP proxy.
        lb_policy=Cluster.MAGLEV
        if sticky
        else Cluster.LEAST_REQUEST
        if port.app_protocol.is_http
        else Cluster.ROUND_ROBIN,
        circuit_breakers=circuit_breakers(),
        outlier_detection=outliers(port.app_protocol),
        health_checks=active_checks(service, port, check, health_log=""),
        # TCP only: a frozen process keeps its connections open, and their clients would wait for ever.
        close_connections_on_host_health_failure=True,
        # An endpoint that was taken away must go even while it still answers checks.
        ignore_health_on_host_removal=True,
        transport_socket=with_destination(),
        # Panic only when every tier is at nought: then trying somebody beats refusing everybody (DESIGN section 9).
        # A new endpoint neither takes traffic nor counts as missing before its first check.
        common_lb_config=balancing(panic_percent=1.0, wait_for_first_check=True),
    )
    if port.app_protocol.is_http:
        message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(packed(upstream_http(port.app_protocol)))
    return message


def upstream_http(app: AppProtocol) -> HttpProtocolOptions:
    """HTTP/2 where the service speaks it, HTTP/1.1 where it does not."""
    explicit = HttpProtocolOptions.ExplicitHttpConfig()
    if app in (AppProtocol.HTTP2, AppProtocol.GRPC):
        keepalive = KeepaliveSettings(interval=milliseconds(PING_MS), timeout=milliseconds(PING_PATIENCE_MS))
        # All clients of an endpoint share its connection: with Envoy's 24 MiB, two that do not read stop the others.
        explicit.http2_protocol_options.CopyFrom(
            without_guards(
                Http2ProtocolOptions(
                    connection_keepalive=keepalive,
                    initial_stream_window_size=number(STREAM_WINDOW),
                    initial_connection_window_size=number(CONNECTION_WINDOW),
                )
            )
        )
        idle_ms = HTTP2_IDLE_MS
    else:
        idle_ms = HTTP1_IDLE_MS
        explicit.http_protocol_options.CopyFrom(http1())
    common = CommonHttpOptions(idle_timeout=milliseconds(idle_ms), max_headers_count=number(MAX_HEADERS))
    return HttpProtocolOptions(common_http_protocol_options=common, explicit_http_config=explicit)


def _listener(service: ServiceName, port: ServicePort, vip: str, listen_port: int, sticky: bool) -> Listener:
    cluster = names.service_cluster(service, port.port)
    if port.app_protocol.is_http:
        chosen = http_connections(service, cluster, sticky)
    else:
        chosen = _tcp(cluster, sticky)
    return Listener(
        name=names.egress_listener(service, port.port),
        address=Address(socket_address=SocketAddress(address=vip, port_value=listen_port)),
        filter_chains=[FilterChain(filters=[chosen])],
        # Else a second gateway of this machine with the same VIP range would silently get half of the connections.
        enable_reuse_port=no(),
        # The statistics of all services together: one set per listener costs 30 KB each.
        stat_prefix="egress",
    )


def _tcp(cluster: str, sticky: bool) -> Filter:
    proxy = TcpProxy(
        stat_prefix="egress",
        cluster=cluster,
        # A target that refuses is ejected by the first refusal, so each further attempt meets another one. Ejection
        # goes through Envoy's main thread: without a pause all attempts would be spent on the same target.
        max_connect_attempts=number(8),
        backoff_options=BackoffStrategy(base_interval=milliseconds(5), max_interval=milliseconds(50)),
        idle_timeout=milliseconds(IDLE_MS),
    )
    if sticky:
        proxy.hash_policy.append(HashPolicy(source_ip=HashPolicy.SourceIp()))
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))
