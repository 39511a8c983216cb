"""Ask Envoy to tell the agent how long the answers to a sample of the requests took, and read what it tells."""

import math
from functools import cache

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog, AccessLogFilter, RuntimeFilter
from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogCommon
from envoy.extensions.access_loggers.grpc.v3.als_pb2 import CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from isthmus_gateway.hedging import Answer
from isthmus_gateway.resources.bootstrap import XDS_CLUSTER
from isthmus_gateway.resources.encode import milliseconds, number, packed
from isthmus_gateway.resources.names import SAMPLE_KEY, SAMPLED_AT_FIRST, hedge_of

EVERY_MS = 500
MOST_BYTES = 65_536


@cache
def sampling() -> AccessLog:
    """Every connection manager has the same one, so Envoy opens one stream a worker for all of them.

    A stream, not a file: while the agent is away Envoy drops what nobody reads, and no disk runs full.
    """
    stream = CommonGrpcAccessLogConfig(
        log_name="answers",
        transport_api_version=ApiVersion.V3,
        grpc_service=GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=XDS_CLUSTER)),
        buffer_flush_interval=milliseconds(EVERY_MS),
        buffer_size_bytes=number(MOST_BYTES),
    )
    # Without request ids (we generate none) the choice would hang on what the client sends.
    chance = RuntimeFilter(
        runtime_key=SAMPLE_KEY,
        percent_sampled=FractionalPercent(numerator=SAMPLED_AT_FIRST, denominator=FractionalPercent.TEN_THOUSAND),
        use_independent_randomness=True,
    )
    return AccessLog(
        name="envoy.access_loggers.http_grpc",
        filter=AccessLogFilter(runtime_filter=chance),
        typed_config=packed(HttpGrpcAccessLogConfig(common_config=stream)),
    )


def parse_answers(message: bytes) -> list[Answer]:
    """The answers to requests that may be hedged; what cannot be read is empty."""
    try:
        entries = StreamAccessLogsMessage.FromString(message).http_logs.log_entry
    except DecodeError:
        return []
    found = (_answer(entry.common_properties) for entry in entries)
    return [answer for answer in found if answer is not None]


def _answer(common: AccessLogCommon) -> Answer | None:
    delay_ms = hedge_of(common.route_name)
    if not delay_ms:
        return None
    if common.HasField("time_to_first_upstream_rx_byte"):
        took_ms = _ms(common.time_to_first_upstream_rx_byte) - _ms(common.time_to_last_rx_byte)
    elif common.upstream_request_attempt_count > 1:
        took_ms = math.inf  # the client went away after the request was hedged
    else:
        return None
    return Answer(common.upstream_cluster, delay_ms, took_ms)


def _ms(duration: Duration) -> float:
    return duration.seconds * 1e3 + duration.nanos / 1e6
