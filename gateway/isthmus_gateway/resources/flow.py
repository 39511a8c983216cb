"""What tunnels that share a connection may do to each other: hold data back, stand in line, and end all at once."""

from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions, KeepaliveSettings
from envoy.config.core.v3.socket_option_pb2 import SocketOption
from google.protobuf.wrappers_pb2 import UInt64Value

from isthmus_gateway.resources.encode import milliseconds, number

# What one tunnel may hold for its reader. A server that closes while its client is further behind than this loses the
# rest of what it sent (docs/decisions/0008), so it is large; it is also what a client that never reads costs.
STREAM_WINDOW = 16 * 1024 * 1024

# The most that HTTP/2 can say. All tunnels of a connection share it, so it must hold what all of them may hold:
# with Envoy's own 24 MiB, two clients that do not read stop every service between two clusters.
CONNECTION_WINDOW = 2**31 - 1
TUNNELS_A_CONNECTION = CONNECTION_WINDOW // STREAM_WINDOW

# Envoy closes a connection on which many streams are reset, or many frames wait to be sent, for that is what attacks
# look like (CVE-2023-44487, CVE-2019-9512 and others). Here many share it: a thousand clients that give up, or many
# small messages while the other end stands still, would end what all others do. Another such limit is in bootstrap.py.
FRAMES = 1_000_000

# What may stand in line for the wire, in bytes: all that is said later, by whichever service, waits for it. A tunnel
# adds so much at a time, so much waits in Envoy, and so much in the kernel. By default each tunnel may add 1 MiB, and
# the kernel takes several (docs/decisions/0012).
TURN = 64 * 1024
LINE = 256 * 1024
UNSENT = 128 * 1024
IPPROTO_TCP, TCP_NOTSENT_LOWAT = 6, 25  # Linux: tcp(7)


def tunnels(ping_ms: int, patience_ms: int) -> Http2ProtocolOptions:
    """HTTP/2 for tunnels, the same at both ends; pings end a connection whose other end is gone."""
    options = Http2ProtocolOptions(
        allow_connect=True,
        initial_stream_window_size=number(STREAM_WINDOW),
        initial_connection_window_size=number(CONNECTION_WINDOW),
        max_concurrent_streams=number(TUNNELS_A_CONNECTION),
        connection_keepalive=KeepaliveSettings(interval=milliseconds(ping_ms), timeout=milliseconds(patience_ms)),
    )
    return without_guards(options)


def without_guards(options: Http2ProtocolOptions) -> Http2ProtocolOptions:
    """Let a connection that many share live on whatever one of them does: Envoy's limits on frames are out of reach.

    Those on received resets Envoy has since 1.39, the Python messages have not, so they travel as unknown fields.
    """
    options.max_outbound_frames.value = FRAMES
    options.max_outbound_control_frames.value = FRAMES
    limit = UInt64Value(value=FRAMES).SerializeToString()
    for field in (21, 22):  # stream_reset_burst, stream_reset_rate
        tag = field << 3 | 2
        options.MergeFromString(bytes((tag & 0x7F | 0x80, tag >> 7, len(limit))) + limit)
    return options


def short_line() -> SocketOption:
    """The kernel takes no more than it can send soon; what waits in Envoy takes turns, tunnel by tunnel."""
    return SocketOption(level=IPPROTO_TCP, name=TCP_NOTSENT_LOWAT, int_value=UNSENT)
