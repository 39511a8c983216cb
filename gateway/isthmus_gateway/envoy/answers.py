"""Hear from Envoy how long the answers to a sample of the requests took (its access log service)."""

from collections.abc import AsyncIterator, Callable

import grpc

from isthmus_gateway.hedging import Answer
from isthmus_gateway.resources import parse_answers

SERVICE = "envoy.service.accesslog.v3.AccessLogService"


def answers_handler(on_answers: Callable[[list[Answer]], None]) -> grpc.GenericRpcHandler:
    """Serve the access log service; one stream comes from each worker of Envoy and stays open."""

    async def listen(messages: AsyncIterator[bytes], _: object) -> bytes:
        async for message in messages:
            on_answers(parse_answers(message))
        return b""  # a StreamAccessLogsResponse, which has no fields

    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(listen)
    return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": method})
