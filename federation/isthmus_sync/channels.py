"""Open gRPC channels and servers with the limits and keepalives of this protocol."""

from collections.abc import Iterable, Sequence

import grpc
import grpc.aio

MESSAGE_LIMIT = 64 * 1024 * 1024

_LIMITS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
)
_CHANNEL: tuple[tuple[str, int], ...] = (
    *_LIMITS,
    # A new attempt is a new connection: it must not inherit the back-off of an earlier channel to the same address.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)
_SERVER: tuple[tuple[str, int], ...] = (
    *_LIMITS,
    # Two servers on one port would share the peers silently: a taken port must be an error.
    ("grpc.so_reuseport", 0),
    # Clients ping every second, below; gRPC's default takes that for abuse ("too_many_pings").
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 200),
    ("grpc.http2.max_ping_strikes", 0),
)


def _keepalive(every_ms: int, within_ms: int) -> tuple[tuple[str, int], ...]:
    """Ping also when nothing is said. A peer behind a black hole is noticed within the sum of both."""
    return (
        ("grpc.keepalive_time_ms", every_ms),
        ("grpc.keepalive_timeout_ms", within_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A keepalive ping is a ping like others: without this, an unanswered one counts as lost after gRPC's minute.
        ("grpc.http2.ping_timeout_ms", within_ms),
    )


_VIGILANT = _keepalive(1_000, 1_500)
# Envoy answers no ping while its main thread works, for seconds when it takes over thousands of clusters; cutting its
# stream then would make it start again.
_PATIENT = _keepalive(5_000, 20_000)


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None = None, options: Sequence[tuple[str, object]] = ()
) -> grpc.aio.Channel:
    """A channel to `host:port` with credentials, or to `unix:/path` without. A dead server is noticed in 2.5 s."""
    if credentials is not None:
        return grpc.aio.secure_channel(target, credentials, _merged(_CHANNEL, _VIGILANT, options))
    if not target.startswith("unix:"):
        raise ValueError(f"a channel to {target} needs credentials: only unix sockets go without")
    # No keepalive: the kernel closes a unix socket when its peer dies.
    return grpc.aio.insecure_channel(target, _merged(_CHANNEL, options))


def new_server(
    handlers: Iterable[grpc.GenericRpcHandler],
    options: Sequence[tuple[str, object]] = (),
    *,
    vigilant: bool = False,
) -> grpc.aio.Server:
    """A server that is not started yet; add its ports, then start it.

    `vigilant` for peers across a network: a vanished one is noticed in 2.5 s. Not for Envoy.
    """
    server = grpc.aio.server(options=_merged(_SERVER, _VIGILANT if vigilant else _PATIENT, options))
    server.add_generic_rpc_handlers(tuple(handlers))
    return server


def _merged(*options: Sequence[tuple[str, object]]) -> list[tuple[str, object]]:
    """Each option once, as it was said last: of two of a name gRPC takes the first."""
    return list(dict(option for some in options for option in some).items())
