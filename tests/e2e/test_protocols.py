"""What a service speaks is carried between clusters: HTTP, gRPC, WebSocket and plain TCP."""

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import grpc
import pytest
from aiohttp import web

from support.federation import Federation
from support.traffic import LineLoad, answered_by
from support.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def two(new_federation: Callable[..., Federation]) -> Federation:
    return new_federation(west="aws/eu-west-1/a", east="gcp/europe-west1/b")


async def test_plain_tcp_is_carried_both_ways(two: Federation) -> None:
    two["east"].offer("line", 9000, protocol="tcp")
    two["east"].start_backend(port=9000)
    await answered_by(LineLoad("line", two["west"].vip("line"), 9000, 1), "east")


async def test_grpc_calls_and_streams_are_carried(two: Federation) -> None:
    async def echo(request: bytes, _: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        return b"east " + request

    async def count(
        requests: AsyncIterator[bytes], _: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request * 2

    server = grpc.aio.server()
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.stream_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    server.add_insecure_port(f"{two['east'].net.address(10)}:7000")
    await server.start()
    two["east"].offer("calls", 7000, protocol="grpc", check="tcp: {}")
    try:
        async with grpc.aio.insecure_channel(f"{two['west'].vip('calls')}:7000") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Echo/Echo")

            async def answers() -> bool:
                try:
                    return await call(b"hello", wait_for_ready=True, timeout=20) == b"east hello"
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    return False  # not yet found healthy

            await eventually(answers, within=20, every=0.1)
            count_all: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/test.Echo/Count")
            stream = count_all(timeout=20)
            for word in (b"a", b"b"):
                await stream.write(word)
                assert await stream.read() == word * 2
            await stream.done_writing()
            assert await stream.read() == grpc.aio.EOF
    finally:
        await server.stop(None)


async def test_a_websocket_stays_open_through_both_gateways(two: Federation) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        if not socket.can_prepare(request):
            return web.Response(text="east")
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"east {message.data}")
        return socket

    app = web.Application()
    app.router.add_get("/{any:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, two["east"].net.address(10), 8080).start()
    two["east"].offer()
    url = f"http://{two['west'].vip()}:8080/chat"
    try:
        async with aiohttp.ClientSession() as session:

            async def answers() -> bool:
                try:
                    async with session.get(url) as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectorError:
                    return False  # the name is there a moment before its listener

            await eventually(answers, within=20, every=0.1)
            async with session.ws_connect(url) as socket:
                for word in ("one", "two"):
                    await socket.send_str(word)
                    assert await socket.receive_str(timeout=10) == f"east {word}"
                    await asyncio.sleep(0.3)
    finally:
        await runner.cleanup()
