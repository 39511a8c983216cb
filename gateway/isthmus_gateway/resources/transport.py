"""The transport sockets: mutual TLS 1.3 between gateways, and internal connections that carry their destination."""

from functools import lru_cache

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.extensions.transport_sockets.internal_upstream.v3.internal_upstream_pb2 import InternalUpstreamTransport
from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import TlsParameters
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext
from envoy.type.metadata.v3.metadata_pb2 import MetadataKind

from isthmus_core.names import ClusterId
from isthmus_gateway.resources.encode import ads, packed, yes
from isthmus_gateway.resources.names import IDENTITY, TUNNEL_METADATA, caller_protocol, peer_secret

# The hybrid with ML-KEM first: what is recorded today must not be readable by tomorrow's machines (DESIGN section 8).
GROUPS = ("X25519MLKEM768", "X25519")


def to_gateway(server_name: str, cluster: ClusterId, here: ClusterId) -> TransportSocket:
    """TLS from a gateway of `here` towards the gateways of a remote cluster, whom nobody else can stand in for."""
    context = UpstreamTlsContext(sni=server_name, common_tls_context=_common(cluster, caller_protocol(here)))
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


@lru_cache(1_000)
def from_gateways(cluster: ClusterId) -> TransportSocket:
    """TLS of the ingress: nobody without a certificate of this other member."""
    context = DownstreamTlsContext(require_client_certificate=yes(), common_tls_context=_common(cluster))
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def with_destination() -> TransportSocket:
    """Hands the endpoint's metadata to the internal listener; a direct endpoint has none and is spoken to plainly."""
    raw = TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=packed(RawBuffer()))
    source = InternalUpstreamTransport.MetadataValueSource(
        kind=MetadataKind(host=MetadataKind.Host()), name=TUNNEL_METADATA
    )
    internal = InternalUpstreamTransport(passthrough_metadata=[source], transport_socket=raw)
    return TransportSocket(name="envoy.transport_sockets.internal_upstream", typed_config=packed(internal))


def _common(peer: ClusterId, *says: str) -> CommonTlsContext:
    return CommonTlsContext(
        alpn_protocols=["h2", *says],
        # Upstream connections stop at TLS 1.2 unless told otherwise.
        tls_params=TlsParameters(
            tls_minimum_protocol_version=TlsParameters.TLSv1_3,
            tls_maximum_protocol_version=TlsParameters.TLSv1_3,
            ecdh_curves=GROUPS,
        ),
        tls_certificate_sds_secret_configs=[SdsSecretConfig(name=IDENTITY, sds_config=ads())],
        validation_context_sds_secret_config=SdsSecretConfig(name=peer_secret(peer), sds_config=ads()),
    )
