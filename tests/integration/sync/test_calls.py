"""A gRPC call that is told to end leaves nothing behind."""

import grpc.aio
import pytest

from isthmus_kit.calls import end_call
from support.leaks import tasks
from support.waiting import eventually

pytestmark = pytest.mark.anyio


async def _wait(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    while isinstance(await context.read(), bytes):
        pass


def waiting_for_status() -> list[str]:
    named = [getattr(task.get_coro(), "__qualname__", "") for task in tasks()]
    return [name for name in named if name.startswith("_AioCall.")]


async def test_a_call_that_counts_as_ended_after_a_failed_write_ends() -> None:
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_wait)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Calls", {"Wait": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream("/test.Calls/Wait")()
            await call.write(b"first")
            # What gRPC does when a write fails because the peer goes away.
            call._cython_call.set_internal_error("broken")  # type: ignore[attr-defined] # its own word for it
            assert call.done()
            assert waiting_for_status()
            end_call(call)
            await eventually(lambda: not waiting_for_status(), 5)
    finally:
        await server.stop(None)
