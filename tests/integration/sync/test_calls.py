"""A gRPC call that is told to end leaves nothing behind, and one that the peer ends says why."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from isthmus_kit.calls import Ending, end_call
from support.leaks import tasks
from support.waiting import eventually

pytestmark = pytest.mark.anyio


Call = grpc.aio.StreamStreamCall[bytes, bytes]
Context = grpc.aio.ServicerContext[bytes, bytes]
REASON = (grpc.StatusCode.UNAVAILABLE, "the certificate has expired")


@asynccontextmanager
async def calling(answer: Callable[[object, Context], Awaitable[None]]) -> AsyncIterator[Callable[[], Call]]:
    """Opens calls to a server that does this with each."""
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Calls", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.stream_stream("/test.Calls/Call")
    finally:
        await server.stop(None)


async def _wait(_: object, context: Context) -> None:
    while isinstance(await context.read(), bytes):
        pass


async def _abort(_: object, context: Context) -> None:
    await context.read()
    await context.abort(*REASON)


def break_a_write(call: Any) -> None:
    """What gRPC does when a write fails because the peer goes away."""
    call._cython_call.set_internal_error("broken")


def waiting_for_status() -> list[str]:
    named = [getattr(task.get_coro(), "__qualname__", "") for task in tasks()]
    return [name for name in named if name.startswith("_AioCall.")]


async def test_a_call_that_counts_as_ended_after_a_failed_write_ends() -> None:
    async with calling(_wait) as dial:
        call = dial()
        await call.write(b"first")
        break_a_write(call)
        assert call.done()
        assert waiting_for_status()
        end_call(call)
        await eventually(lambda: not waiting_for_status(), 5)


@pytest.mark.parametrize("status_first", [True, False])
async def test_a_write_that_fails_does_not_cover_what_the_peer_said(status_first: bool) -> None:
    expired = asyncio.Event()

    async def abort(_: object, context: Context) -> None:
        await expired.wait()
        await context.abort(*REASON)

    async with calling(abort) as dial:
        call = dial()
        ending = Ending(call)
        await call.wait_for_connection()
        if status_first:
            expired.set()
            assert await call.code() is REASON[0]
        break_a_write(call)
        assert await call.code() is grpc.StatusCode.INTERNAL
        expired.set()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert await ending.status(raised.value) == REASON
        end_call(call)


async def write_until_it_fails(call: Call) -> None:
    while True:
        await call.write(b"x" * 65_536)


async def test_writes_while_the_peer_ends_the_call_give_its_reason() -> None:
    async with calling(_abort) as dial:
        covered = 0
        for _ in range(60):
            call = dial()
            ending = Ending(call)
            with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)) as raised:
                await write_until_it_fails(call)
            error = raised.value if isinstance(raised.value, grpc.aio.AioRpcError) else None
            covered += await call.code() is grpc.StatusCode.INTERNAL
            assert await ending.status(error) == REASON
            end_call(call)
        print(f"{covered} of 60 statuses were covered")


async def test_a_call_to_nobody_keeps_what_it_raised() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        call: Call = channel.stream_stream("/test.Calls/Call")()
        ending = Ending(call)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        code, details = await ending.status(raised.value)
        assert code is grpc.StatusCode.UNAVAILABLE and "refused" in details
        end_call(call)
