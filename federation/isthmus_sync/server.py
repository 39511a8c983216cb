"""Serve the sync protocol on a gRPC server: find out who calls, then let a machine talk to it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from typing import Any, TypeVar

import grpc
import grpc.aio
import msgspec

from isthmus_core.errors import InvalidInput, Refused, Unavailable
from isthmus_sync.streams import Publishing, publish_on
from isthmus_sync.subscribing import ACCEPTED, Subscribing, Wire
from isthmus_sync.turns import subscribe_in_turn

IMPORTS_METHOD = "/isthmus.v1.Imports/Delta"
EXPORTS_METHOD = "/isthmus.v1.Exports/Delta"
ZONE_METHOD = "/isthmus.v1.ZoneFeed/Delta"
ADS_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

_UNREAD_S = 60.0
"""Seconds that a message waits for a peer that lives, as its pings say, and does not read: it stands in our memory."""

P = TypeVar("P")
S = TypeVar("S", Publishing, Subscribing)
_Context = grpc.aio.ServicerContext[bytes, bytes]


class Caller(msgspec.Struct, frozen=True):
    """Who opened a stream, as the transport knows it."""

    certificate: bytes | None  # PEM of the client certificate; None on a unix socket
    address: str  # as gRPC writes it: "ipv4:127.0.0.1:1234", "unix:"
    when_gone: Callable[[Callable[[], None]], object]
    """Calls back when nothing of the call stands in memory any more. That may be long after its stream was ended here:
    gRPC keeps what was written, and the status, until the peer takes them or its connection ends."""


def publisher_handler(
    method: str,
    identify: Callable[[Caller], P],
    open_feed: Callable[[P], AbstractAsyncContextManager[Publishing]],
) -> grpc.GenericRpcHandler:
    """Serve `method` to peers that subscribe. `open_feed` is entered when a stream opens and left when it ends.

    `identify` makes a typed peer of the caller, or raises InvalidInput (UNAUTHENTICATED) or Refused
    (PERMISSION_DENIED).
    """
    return _handler(method, identify, open_feed, publish_on)


def subscriber_handler(
    method: str,
    identify: Callable[[Caller], P],
    open_intake: Callable[[P], AbstractAsyncContextManager[Subscribing]],
) -> grpc.GenericRpcHandler:
    """Serve `method` to peers that publish inside a stream that they open themselves (Exports)."""
    return _handler(method, identify, open_intake, subscribe_in_turn)


def _handler(
    method: str,
    identify: Callable[[Caller], P],
    opened: Callable[[P], AbstractAsyncContextManager[S]],
    talk: Callable[[Wire, S], Awaitable[None]],
) -> grpc.GenericRpcHandler:
    async def serve(_: object, context: _Context) -> None:
        with ExitStack() as ended:
            refusal = await _serve(context, ended, identify, opened, talk)
            if refusal is not None:
                # It waits behind what the peer has not taken. When the connection ends first, there is nobody to tell.
                with suppress(grpc.aio.InternalError):
                    await context.abort(*refusal)

    service, name = method.strip("/").split("/")
    # No (de)serialisers: responses are spliced bytes, and what cannot be parsed must be refused with a sentence.
    return grpc.method_handlers_generic_handler(service, {name: grpc.stream_stream_rpc_method_handler(serve)})


async def _serve(
    context: _Context,
    ended: ExitStack,
    identify: Callable[[Caller], P],
    opened: Callable[[P], AbstractAsyncContextManager[S]],
    talk: Callable[[Wire, S], Awaitable[None]],
) -> tuple[grpc.StatusCode, str] | None:
    """Serve one stream to its end; the status and the sentence when it ends with a refusal."""
    try:
        peer = identify(_caller(context, ended))
    except InvalidInput as error:
        return grpc.StatusCode.UNAUTHENTICATED, str(error)
    except Refused as error:
        return grpc.StatusCode.PERMISSION_DENIED, str(error)
    try:
        async with opened(peer) as part:
            reason = "the server is stopping or the peer went away"
            # At once, so that the client knows that it is connected although nothing has been said yet.
            await context.send_initial_metadata((ACCEPTED,))
            part.on_connected()
            try:
                await talk(ServerWire(context), part)
                reason = "the peer ended the stream"
            except (InvalidInput, Refused, Unavailable) as error:
                reason = str(error)
                raise
            finally:
                part.on_disconnected(reason)
    except InvalidInput as error:
        return grpc.StatusCode.INVALID_ARGUMENT, str(error)
    except Refused as error:
        return grpc.StatusCode.PERMISSION_DENIED, str(error)
    except Unavailable as error:
        return grpc.StatusCode.UNAVAILABLE, str(error)
    return None


def _caller(context: _Context, ended: ExitStack) -> Caller:
    certificates = context.auth_context().get("x509_pem_cert")
    return Caller(bytes(next(iter(certificates))) if certificates else None, context.peer(), ended.callback)


class ServerWire:
    """An open call as this protocol sees it."""

    def __init__(self, context: _Context) -> None:
        self._context = context

    async def read(self) -> bytes | None:
        """The peer's next message; None when it will send no more."""
        payload: Any = await self._context.read()
        return None if payload is grpc.aio.EOF else payload

    async def write(self, payload: bytes) -> None:
        """Send a message; raises Unavailable when the peer does not take it."""
        try:
            async with asyncio.timeout(_UNREAD_S):
                await self._context.write(payload)
        except TimeoutError:
            raise Unavailable(f"the peer has not taken a message for {_UNREAD_S:g} s") from None
