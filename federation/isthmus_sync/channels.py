"""Open gRPC channels and servers with the limits and keepalives of this protocol."""

from collections.abc import Iterable, Sequence

import grpc
import grpc.aio

MESSAGE_LIMIT = 64 * 1024 * 1024

_COMMON: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    # Both sides ping, also when nothing is said: a peer behind a black hole is noticed within these two together.
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1500),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    *_COMMON,
    # A new attempt is a new connection: it must not inherit the back-off of an earlier channel to the same address.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *_COMMON,
    # Two servers on one port would share the peers silently: a taken port must be an error.
    ("grpc.so_reuseport", 0),
    # Clients ping every second, above; gRPC's default takes that for abuse ("too_many_pings").
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 200),
    ("grpc.http2.max_ping_strikes", 0),
)


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None = None, options: Sequence[tuple[str, object]] = ()
) -> grpc.aio.Channel:
    """A channel to `host:port` with credentials, or to `unix:/path` without."""
    every = [*CHANNEL_OPTIONS, *options]
    if credentials is not None:
        return grpc.aio.secure_channel(target, credentials, every)
    if not target.startswith("unix:"):
        raise ValueError(f"a channel to {target} needs credentials: only unix sockets go without")
    return grpc.aio.insecure_channel(target, every)


def new_server(
    handlers: Iterable[grpc.GenericRpcHandler], options: Sequence[tuple[str, object]] = ()
) -> grpc.aio.Server:
    """A server that is not started yet; add its ports, then start it."""
    server = grpc.aio.server(options=[*SERVER_OPTIONS, *options])
    server.add_generic_rpc_handlers(tuple(handlers))
    return server
