"""The smallest resources of Envoy that do something: a cluster, its endpoints, a listener and its routes."""

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as http_pb2


def cluster(name: str, timeout: float = 1.0) -> cluster_pb2.Cluster:
    made = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS)
    made.eds_cluster_config.eds_config.ads.SetInParent()
    made.eds_cluster_config.eds_config.resource_api_version = config_source_pb2.V3
    made.connect_timeout.FromNanoseconds(int(timeout * 1e9))
    return made


def endpoints(name: str, *ports: int) -> endpoint_pb2.ClusterLoadAssignment:
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = made.endpoints.add()
    for port in ports:
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
    return made


def routes(name: str, answer: str) -> route_pb2.RouteConfiguration:
    made = route_pb2.RouteConfiguration(name=name)
    route = made.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.match.prefix = "/"
    route.direct_response.status = 200
    route.direct_response.body.inline_string = answer
    return made


def listener(name: str, port: int, route: str, prefix: str = "http") -> listener_pb2.Listener:
    manager = http_pb2.HttpConnectionManager(stat_prefix=prefix)
    manager.rds.route_config_name = route
    manager.rds.config_source.ads.SetInParent()
    manager.rds.config_source.resource_api_version = config_source_pb2.V3
    manager.http_filters.add(name="router").typed_config.Pack(router_pb2.Router())
    made = listener_pb2.Listener(name=name)
    made.address.socket_address.address, made.address.socket_address.port_value = "127.0.0.1", port
    made.filter_chains.add().filters.add(name="http").typed_config.Pack(manager)
    return made
