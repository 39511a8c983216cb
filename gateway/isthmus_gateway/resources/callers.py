"""One door of the ingress for each other member, so that a member's removal closes its connections and nobody else's.

A caller says who it is before it shows its certificate: it offers a protocol of its own name (ALPN) beside the one that
is spoken. The name opens no door by itself. It only chooses the filter chain, and that demands a certificate of this
very cluster. A chain that vanishes takes its open connections along (docs/decisions/0011).
"""

from collections.abc import Iterable, Sequence

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch, ListenerFilter
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector

from isthmus_core.names import ClusterId
from isthmus_gateway.resources.encode import milliseconds, packed
from isthmus_gateway.resources.names import caller_protocol
from isthmus_gateway.resources.transport import from_gateways

PATIENCE_MS = 5_000
"""Somebody who connects has so long for the first bytes, and as long for the handshake."""


def reads_callers() -> ListenerFilter:
    """Reads which caller's door a connection asks for."""
    return ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=packed(TlsInspector()))


def doors(callers: Iterable[ClusterId], filters: Sequence[Filter]) -> list[FilterChain]:
    """The doors of these clusters; whoever names none of them is closed before a handshake."""
    # Envoy keeps a chain, and its connections, as long as the message is the same.
    chains = [_door(caller_protocol(caller), from_gateways(caller), filters) for caller in sorted(callers)]
    # Envoy refuses a listener without chains: this one has no filters, which closes what comes in.
    return chains or [FilterChain(name="nobody", filter_chain_match=FilterChainMatch(application_protocols=["nobody"]))]


def _door(protocol: str, security: TransportSocket, filters: Sequence[Filter]) -> FilterChain:
    return FilterChain(
        name=protocol,
        filter_chain_match=FilterChainMatch(application_protocols=[protocol]),
        transport_socket=security,
        transport_socket_connect_timeout=milliseconds(PATIENCE_MS),
        filters=filters,
    )
