"""Write the file Envoy starts with: who it is, where its agent is, and nothing else."""

import msgspec
from envoy.config.bootstrap.v3.bootstrap_pb2 import Admin, Bootstrap, LayeredRuntime, RuntimeLayer
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, Pipe
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.core.v3.config_source_pb2 import ApiConfigSource, ApiVersion
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions, KeepaliveSettings
from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.metrics.v3.stats_pb2 import StatsConfig, StatsMatcher
from envoy.config.overload.v3.overload_pb2 import OverloadManager, ResourceMonitor
from envoy.extensions.bootstrap.internal_listener.v3.internal_listener_pb2 import InternalListener
from envoy.extensions.resource_monitors.downstream_connections.v3.downstream_connections_pb2 import (
    DownstreamConnectionsConfig,
)
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from envoy.type.matcher.v3.string_pb2 import ListStringMatcher, StringMatcher
from google.protobuf.json_format import MessageToJson

from isthmus_core.names import ClusterId
from isthmus_gateway.resources.encode import ads, extension, milliseconds, packed

XDS_CLUSTER = "xds"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

# With 10,000 services per-cluster statistics are most of Envoy's memory. `upstream_cx_total` must stay: health checks
# of a cluster whose counter does not exist run at the slow no-traffic interval for ever.
KEPT_PREFIXES = (
    "server.",
    "cluster_manager.",
    "listener_manager.",
    "control_plane.",
    "http.",
    "tcp.",
    "cluster.gateway/",
    "cluster.xds.",
    "listener.",
    "ingress.rbac.",  # connections that were refused for what their certificate says
)
KEPT_SUFFIXES = (".upstream_cx_total", ".membership_healthy")

RUNTIME: dict[str, bool | int] = {
    # A server that has answered closes its connection, and the other gateway ends the tunnel with "end of data" and a
    # reset without an error. Envoy 1.40 makes a TCP reset of that, which takes what has not been delivered with it.
    # The end of a tunnel is the end of the data, not a reset of the client's connection.
    "envoy.reloadable_features.propagate_upstream_rst_through_tunneled_tcp_proxy": False,
    # What was received before such a reset is delivered, however slowly the client reads.
    "envoy.reloadable_features.http_preserve_rst_no_error": True,
    # Envoy closes a connection when most of its first 500 streams were reset before they were answered: the sender
    # may be an attacker (CVE-2023-44487). Here it is a gateway with many clients, who must not end each other.
    "overload.premature_reset_total_stream_count": 1_000_000_000_000,
}


class EnvoySettings(msgspec.Struct, frozen=True):
    """What one Envoy must know before it meets its agent; paths are absolute."""

    node_id: str
    cluster: ClusterId
    xds_socket: str
    admin_socket: str
    max_connections: int = 50_000


def build_bootstrap(settings: EnvoySettings) -> str:
    """The JSON text for Envoy's `-c`."""
    bootstrap = Bootstrap(
        node=Node(id=settings.node_id, cluster=settings.cluster),
        admin=Admin(address=Address(pipe=Pipe(path=settings.admin_socket, mode=0o600))),
        # Internal listeners do not exist without this extension.
        bootstrap_extensions=[extension("envoy.bootstrap.internal_listener", InternalListener())],
        static_resources=Bootstrap.StaticResources(clusters=[_xds_cluster(settings.xds_socket)]),
        dynamic_resources=Bootstrap.DynamicResources(ads_config=_ads(), cds_config=ads(), lds_config=ads()),
        layered_runtime=_runtime(),
        stats_config=StatsConfig(stats_matcher=StatsMatcher(inclusion_list=_kept())),
        overload_manager=OverloadManager(
            resource_monitors=[
                ResourceMonitor(
                    name="envoy.resource_monitors.global_downstream_max_connections",
                    typed_config=packed(
                        DownstreamConnectionsConfig(max_active_downstream_connections=settings.max_connections)
                    ),
                )
            ]
        ),
    )
    # A map has another order in every process, and an Envoy whose settings differ is started again.
    return MessageToJson(bootstrap, preserving_proto_field_name=True, sort_keys=True)


def _runtime() -> LayeredRuntime:
    ours = RuntimeLayer(name="isthmus")
    ours.static_layer.update(RUNTIME)
    # What the agent sets while traffic runs: how soon each service is hedged (docs/decisions/0009).
    agent = RuntimeLayer(name="agent", admin_layer=RuntimeLayer.AdminLayer())
    return LayeredRuntime(layers=[ours, agent])


def _ads() -> ApiConfigSource:
    service = GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=XDS_CLUSTER))
    # The agent may restart at any time; Envoy must find it again at once, not after a growing pause of up to 30 s.
    service.envoy_grpc.retry_policy.retry_back_off.base_interval.CopyFrom(milliseconds(50))
    service.envoy_grpc.retry_policy.retry_back_off.max_interval.CopyFrom(milliseconds(1000))
    return ApiConfigSource(
        api_type=ApiConfigSource.DELTA_GRPC,
        transport_api_version=ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[service],
    )


def _xds_cluster(socket: str) -> Cluster:
    keepalive = KeepaliveSettings(interval=milliseconds(10_000), timeout=milliseconds(5_000))
    options = HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptions.ExplicitHttpConfig(
            http2_protocol_options=Http2ProtocolOptions(connection_keepalive=keepalive)
        )
    )
    endpoint = LbEndpoint()
    endpoint.endpoint.address.pipe.path = socket
    return Cluster(
        name=XDS_CLUSTER,
        type=Cluster.STATIC,
        connect_timeout=milliseconds(1_000),
        load_assignment=ClusterLoadAssignment(
            cluster_name=XDS_CLUSTER, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
        typed_extension_protocol_options={HTTP_OPTIONS: packed(options)},
    )


def _kept() -> ListStringMatcher:
    patterns = [StringMatcher(prefix=text) for text in KEPT_PREFIXES]
    patterns += [StringMatcher(suffix=text) for text in KEPT_SUFFIXES]
    return ListStringMatcher(patterns=patterns)
