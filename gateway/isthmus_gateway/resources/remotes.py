"""The way to each remote cluster: one internal listener and one Envoy cluster, shared by all services."""

from envoy.config.cluster.v3.cluster_pb2 import Cluster as EnvoyCluster
from envoy.config.core.v3.address_pb2 import BindConfig
from envoy.config.core.v3.socket_option_pb2 import SocketOption
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from isthmus_core.model import Cluster
from isthmus_core.names import ClusterId
from isthmus_gateway.resources import names
from isthmus_gateway.resources.assignments import build_remote_assignment
from isthmus_gateway.resources.bootstrap import HTTP_OPTIONS
from isthmus_gateway.resources.checks import balancing, circuit_breakers, gateway_checks, gateway_outliers
from isthmus_gateway.resources.encode import Resources, ads, encoded, milliseconds, number, packed
from isthmus_gateway.resources.flow import IPPROTO_TCP, LINE, TURN, short_line, tunnels
from isthmus_gateway.resources.transport import to_gateway

PROBE_TIMEOUT_MS = 250
PING_MS, PATIENCE_MS = 500, 2_000
"""A gateway that stutters may take so long to answer a ping, and to take a connection: with more tunnels than one
carries another is always being made, and a shorter time ended all those that waited for it."""
IDLE_MS = 3_600_000
TCP_USER_TIMEOUT = 18  # Linux: tcp(7)


def build_remote(
    cluster: Cluster, here: ClusterId, health_log: str, probe_timeout_ms: int = PROBE_TIMEOUT_MS
) -> Resources:
    """Everything about one remote cluster, as `here` reaches it, but its secret (`build_trust`).

    Nothing changes here when its gateways fail: Envoy's own probe finds out, and while none of them is healthy every
    connection into the tunnel is refused at once, inside Envoy, for all services together (docs/decisions/0001).
    """
    probed = _gateways(cluster, here, probe_timeout_ms)
    probed.health_checks.extend(gateway_checks(_host(cluster), probe_timeout_ms, health_log))
    # Spare streams: a fresh tunnel costs a round trip that the client does not have to wait for.
    probed.preconnect_policy.per_upstream_preconnect_ratio.value = 1.5
    # The same gateways, whatever the probe says of them: for services that nobody else can serve (decision 0010).
    anyway = _gateways(cluster, here, probe_timeout_ms)
    anyway.name = names.last_resort_listener(cluster.id)
    anyway.eds_cluster_config.service_name = probed.name
    return Resources(
        clusters={probed.name: encoded(probed), anyway.name: encoded(anyway)},
        endpoints=build_remote_assignment(cluster),
        listeners={
            name: encoded(_tunnel(name, leads_to))
            for name, leads_to in ((names.tunnel_listener(cluster.id), probed.name), (anyway.name, anyway.name))
        },
    )


def _tunnel(name: str, leads_to: str) -> Listener:
    proxy = TcpProxy(
        stat_prefix="tunnel",
        cluster=leads_to,
        # host:port, or Envoy refuses it; it comes from the endpoint that was chosen.
        tunneling_config=TcpProxy.TunnelingConfig(hostname=f"%DYNAMIC_METADATA({names.TUNNEL_METADATA}:destination)%"),
        max_connect_attempts=number(2),  # another gateway of the same cluster may still stand
        idle_timeout=milliseconds(IDLE_MS),
    )
    return Listener(
        name=name,
        internal_listener=Listener.InternalListenerConfig(),
        per_connection_buffer_limit_bytes=number(TURN),
        filter_chains=[
            FilterChain(filters=[Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))])
        ],
    )


def _host(cluster: Cluster) -> str:
    return f"gateway.{cluster.trust_domain}"


def _gateways(cluster: Cluster, here: ClusterId, probe_timeout_ms: int) -> EnvoyCluster:
    return EnvoyCluster(
        name=names.gateway_cluster(cluster.id),
        type=EnvoyCluster.EDS,
        eds_cluster_config=EnvoyCluster.EdsClusterConfig(eds_config=ads()),
        connect_timeout=milliseconds(max(PATIENCE_MS, 4 * probe_timeout_ms)),
        upstream_bind_config=BindConfig(socket_options=[_left_when_unacknowledged(probe_timeout_ms), short_line()]),
        per_connection_buffer_limit_bytes=number(LINE),
        lb_policy=EnvoyCluster.LEAST_REQUEST,
        circuit_breakers=circuit_breakers(),
        outlier_detection=gateway_outliers(),
        ignore_health_on_host_removal=True,
        transport_socket=to_gateway(_host(cluster), cluster.id, here),
        typed_extension_protocol_options={HTTP_OPTIONS: packed(_http2())},
        # With no healthy gateway fail at once instead of trying the dead: the services have other tiers.
        common_lb_config=balancing(panic_percent=0.0, wait_for_first_check=False),
    )


def _left_when_unacknowledged(probe_timeout_ms: int) -> SocketOption:
    """A host or a wire that is gone: the kernel ends a connection on which nothing is acknowledged any more.

    This is quicker than a ping, but not much: a peer whose kernel acknowledges while its Envoy stands still is given up
    as well, so long after its window has become full (tcp(7): "due to zero window size"). All tunnels share the
    connection, so a lost packet or two on a long way must not end it either: Linux retransmits after 0.2 s and more,
    then after twice that, and so on; this and several round trips leave room for two of them.
    """
    patience = max(1_500, 4 * probe_timeout_ms)
    return SocketOption(level=IPPROTO_TCP, name=TCP_USER_TIMEOUT, int_value=patience)


def _http2() -> HttpProtocolOptions:
    """A failed probe only keeps new streams away. Pings close the connection, which sets the old ones free: a frozen
    gateway's kernel still acknowledges everything that is sent. They are patient, for they end what only stutters."""
    return HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptions.ExplicitHttpConfig(
            http2_protocol_options=tunnels(PING_MS, PATIENCE_MS)
        )
    )
