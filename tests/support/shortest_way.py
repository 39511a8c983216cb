"""The shortest way from an etcd key to a running Envoy: a watch in Python, one delta assignment, and nothing else.

    python shortest_way.py ETCD_ADDRESS XDS_SOCKET

Run beside the bench of propagation as what the same machine needs without a federation: no files, no certificates, one
process between etcd and Envoy. The value of the key is the weight of the only endpoint of Envoy's cluster `floor`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource
from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import ParseDict

from isthmus_controller.store import Batch, EtcdClient, Follower, Target

PREFIX = "/floor/"
KEY = PREFIX + "weight"
CLUSTER = "floor"
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"


def bootstrap(xds_socket: str, admin_socket: str) -> dict[str, object]:
    """Envoy's configuration: one EDS cluster, fed over `xds_socket`."""
    http2: dict[str, object] = {"explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "node": {"id": "floor", "cluster": "floor"},
        "admin": {"address": {"pipe": {"path": admin_socket}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            }
        },
        "static_resources": {
            "clusters": [
                {
                    "name": CLUSTER,
                    "type": "EDS",
                    "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
                    "common_lb_config": {"update_merge_window": "0s"},
                },
                {
                    "name": "xds",
                    "load_assignment": {
                        "cluster_name": "xds",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": xds_socket}}}}]}],
                    },
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            **http2,
                        }
                    },
                },
            ]
        },
    }


def _update(version: int, weight: int) -> bytes:
    endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}}
    assignment = ParseDict(
        {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint, "load_balancing_weight": weight}]}],
        },
        ClusterLoadAssignment(),
    )
    packed = Any()
    packed.Pack(assignment)
    return DeltaDiscoveryResponse(
        type_url=packed.type_url,
        nonce=str(version),
        resources=[Resource(name=CLUSTER, version=str(version), resource=packed)],
    ).SerializeToString()


class _Stream:
    """Envoy's stream: every weight that etcd told is one response."""

    def __init__(self) -> None:
        self.weights: asyncio.Queue[int] = asyncio.Queue()

    async def serve(self, requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for message in requests:
            if CLUSTER in DeltaDiscoveryRequest.FromString(message).resource_names_subscribe:
                break
        version = 0
        while True:
            version += 1
            yield _update(version, await self.weights.get())


async def serve(etcd_address: str, xds_socket: str) -> None:
    """Until the process is ended."""
    stream = _Stream()
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(stream.serve)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"DeltaAggregatedResources": method}),)
    )
    server.add_insecure_port(f"unix:{xds_socket}")
    await server.start()

    async with EtcdClient(Target((f"http://{etcd_address}",))) as etcd:

        def told(batch: Batch) -> None:
            for change in batch.changes:
                stream.weights.put_nowait(int(change.value or b"1"))

        await Follower(etcd, PREFIX, told).run()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2]))
