"""Connections that many share: nothing that one does may end them, and nothing may stand long in line for them."""

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster as EnvoyCluster
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from isthmus_core.model import AppProtocol, Cluster
from isthmus_core.names import ClusterId, Locality
from isthmus_gateway.resources import build_ingress, build_remote
from isthmus_gateway.resources.bootstrap import HTTP_OPTIONS
from isthmus_gateway.resources.flow import FRAMES, tunnels
from isthmus_gateway.resources.services import upstream_http

FAR = Cluster(ClusterId("b"), Locality("gcp", "x", "y"), "default", "b.fed.test")
THERE = build_remote(FAR, ClusterId("a"), "/h")
WAYS = [EnvoyCluster.FromString(body) for body in THERE.clusters.values()]


def options_of(cluster: EnvoyCluster) -> Http2ProtocolOptions:
    options = HttpProtocolOptions()
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].Unpack(options)
    return options.explicit_http_config.http2_protocol_options


@pytest.mark.parametrize(
    "options",
    [
        tunnels(1, 1),
        *map(options_of, WAYS),
        upstream_http(AppProtocol.GRPC).explicit_http_config.http2_protocol_options,
    ],
    ids=["from gateways", *(way.name for way in WAYS), "to endpoints"],
)
def test_envoy_does_not_end_what_many_share_for_what_one_does(options: Http2ProtocolOptions) -> None:
    assert options.max_outbound_frames.value == options.max_outbound_control_frames.value == FRAMES


def test_a_tunnel_adds_less_to_the_line_than_may_stand_in_it() -> None:
    ingress = Listener.FromString(build_ingress("127.0.0.6", 15443, [FAR.id])["ingress"])
    lines = {way.per_connection_buffer_limit_bytes.value for way in WAYS}
    lines.add(ingress.per_connection_buffer_limit_bytes.value)
    tunnel = [Listener.FromString(body) for body in THERE.listeners.values()]
    turns = {listener.per_connection_buffer_limit_bytes.value for listener in tunnel}
    assert len(turns) == len(lines) == 1 and 0 < turns.pop() < lines.pop()
