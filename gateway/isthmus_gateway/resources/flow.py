"""How much a tunnel may be ahead of its reader, so that one that does not read holds nobody else up."""

from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions, KeepaliveSettings

from isthmus_gateway.resources.encode import milliseconds, number

# What one tunnel may hold for its reader. A server that closes while its client is further behind than this loses the
# rest of what it sent (docs/decisions/0008), so it is large; it is also what a client that never reads costs.
STREAM_WINDOW = 16 * 1024 * 1024

# The most that HTTP/2 can say. All tunnels of a connection share it, so it must hold what all of them may hold:
# with Envoy's own 24 MiB, two clients that do not read stop every service between two clusters.
CONNECTION_WINDOW = 2**31 - 1
TUNNELS_A_CONNECTION = CONNECTION_WINDOW // STREAM_WINDOW


def tunnels(ping_ms: int, patience_ms: int) -> Http2ProtocolOptions:
    """HTTP/2 for tunnels, the same at both ends; pings end a connection whose other end is gone."""
    return Http2ProtocolOptions(
        allow_connect=True,
        initial_stream_window_size=number(STREAM_WINDOW),
        initial_connection_window_size=number(CONNECTION_WINDOW),
        max_concurrent_streams=number(TUNNELS_A_CONNECTION),
        connection_keepalive=KeepaliveSettings(interval=milliseconds(ping_ms), timeout=milliseconds(patience_ms)),
    )
