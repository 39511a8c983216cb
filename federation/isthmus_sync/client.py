"""Keep a stream to a server open: dial, talk, and come back with growing but short pauses."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from isthmus_core.errors import InvalidInput, Unavailable
from isthmus_kit.backoff import Backoff
from isthmus_kit.calls import Ending, end_call
from isthmus_sync.reasons import reason_of
from isthmus_sync.streams import Publishing, publish_on
from isthmus_sync.subscribing import ACCEPTED, Subscribing, Wire, subscribe_on

Dial = Callable[[int], grpc.aio.Channel]
"""Makes the channel of an attempt; called with 0, 1, 2, ... so that it can walk over several addresses.

May raise Unavailable, when there is no identity yet for example: that is a failed attempt like others."""

CONNECT_TIMEOUT = 3.0
_Call = grpc.aio.StreamStreamCall[bytes, bytes]
log = logging.getLogger(__name__)


async def subscribe(dial: Dial, method: str, subscribing: Subscribing, backoff: Backoff | None = None) -> NoReturn:
    """Follow a publisher for ever, across reconnects. What was applied last stays while nobody answers."""
    await _keep(dial, method, subscribing, lambda wire: subscribe_on(wire, subscribing), backoff or Backoff())


async def publish(dial: Dial, method: str, publishing: Publishing, backoff: Backoff | None = None) -> NoReturn:
    """Publish to a server for ever, inside streams that this side opens (Exports)."""
    await _keep(dial, method, publishing, lambda wire: publish_on(wire, publishing), backoff or Backoff())


async def _keep(
    dial: Dial,
    method: str,
    hooks: Publishing | Subscribing,
    talk: Callable[[Wire], Awaitable[None]],
    backoff: Backoff,
) -> NoReturn:
    now = asyncio.get_running_loop().time
    attempt = failures = 0
    told = ""
    while True:
        started = now()
        reason = await _attempt(dial, attempt, method, hooks, talk)
        hooks.on_disconnected(reason)
        if now() - started > backoff.cap:
            failures, told = 0, ""  # it worked for a while: begin with short pauses again
        if reason != told:
            log.info("stream ended", extra={"method": method, "reason": reason, "attempt": attempt})
            told = reason
        await asyncio.sleep(backoff.delay(failures, random.random))
        attempt += 1
        failures += 1


async def _attempt(
    dial: Dial,
    attempt: int,
    method: str,
    hooks: Publishing | Subscribing,
    talk: Callable[[Wire], Awaitable[None]],
) -> str:
    """Open one stream and talk until it ends; why it ended."""
    try:
        channel = dial(attempt)
    except Unavailable as error:
        return str(error)
    try:
        call: _Call = channel.stream_stream(method)()
        ending = Ending(call)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                accepted = ACCEPTED in tuple(await call.initial_metadata())
            if accepted:
                hooks.on_connected()
            else:
                await call.read()  # raises the status and the sentence of the refusal
                return "the peer refused the stream"
            await talk(_ClientWire(call))
            return "the peer ended the stream"
        except _Ended:
            return _reason(*await ending.status())
        except grpc.aio.AioRpcError as error:
            return _reason(*await ending.status(error))
        finally:
            end_call(call)
    except TimeoutError:
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    except (InvalidInput, Unavailable) as error:
        return str(error)
    finally:
        await channel.close()


def _reason(code: grpc.StatusCode, details: str) -> str:
    return "the peer ended the stream" if code is grpc.StatusCode.OK else reason_of(code.name, details)


class _Ended(Unavailable):
    """There was something to write when the call had ended; its status says why."""


class _ClientWire:
    def __init__(self, call: _Call) -> None:
        self._call = call

    async def read(self) -> bytes | None:
        payload: Any = await self._call.read()
        return None if payload is grpc.aio.EOF else payload

    async def write(self, payload: bytes) -> None:
        try:
            await self._call.write(payload)
        except asyncio.InvalidStateError:
            raise _Ended("the stream has ended") from None  # gRPC's word for it
