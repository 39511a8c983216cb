"""gRPC through two gateways is as it is without them: quiet calls, errors, deadlines, and who hears of a cancel."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from integration.envoy.far_service import TCP_CHECK, healthy_at_b, publish_far
from isthmus_core.model import AppProtocol
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair, service_of
from support.relay import Relay
from support.waiting import eventually

Context = grpc.aio.ServicerContext[bytes, bytes]
WIDE = [("grpc.max_receive_message_length", -1), ("grpc.absolute_max_metadata_size", 200_000)]
# As every gRPC server does after three pings that nothing was said between, but after one.
STRICT = [*WIDE, ("grpc.http2.max_ping_strikes", 1)]
# A server refuses some of those beyond a thousand that it has not begun with (CANCELLED), as on a busy machine.
PATIENT = [("grpc.server.max_pending_requests", 10_000), ("grpc.server.max_pending_requests_hard_limit", 10_000)]


RESET_BYTES = 13  # RFC 9113, section 6.4: a frame's head and an error code


class Calls:
    """A service that answers late, refuses, returns what it is given, or never ends."""

    def __init__(self) -> None:
        self.late_ones = 0
        self.cancelled = 0
        self.pumped = 0
        self.echoed = 0

    async def begin(self, _: bytes, __: Context) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(300)

    async def pump(self, _: bytes, __: Context) -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 18)
            self.pumped += 1 << 18

    async def late(self, request: bytes, _: Context) -> bytes:
        self.late_ones += 1
        try:
            await asyncio.sleep(float(request))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b"late"

    async def refuse(self, request: bytes, context: Context) -> bytes:
        context.set_trailing_metadata((("x-why", "because"),))
        await context.abort(grpc.StatusCode.NOT_FOUND, "nothing like " + request.decode())
        raise AssertionError("abort returns to nobody")

    async def echo(self, request: bytes, context: Context) -> bytes:
        self.echoed += 1
        said = dict(context.invocation_metadata() or ())
        await context.send_initial_metadata((("x-said", said.get("x-said", "")),))
        return request


@asynccontextmanager
async def serving(address: str) -> AsyncIterator[tuple[Calls, tuple[str, int]]]:
    """The service, and where it listens."""
    calls = Calls()
    methods = {"Late": calls.late, "Refuse": calls.refuse, "Echo": calls.echo}
    server = grpc.aio.server(options=[*STRICT, *PATIENT])
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()
    }
    handlers["Pump"] = grpc.unary_stream_rpc_method_handler(calls.pump)
    handlers["Begin"] = grpc.unary_stream_rpc_method_handler(calls.begin)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Calls", handlers),))
    port = server.add_insecure_port(f"{address}:0")
    await server.start()
    try:
        yield calls, (address, port)
    finally:
        await server.stop(None)


def method(channel: grpc.aio.Channel, name: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(f"/test.Calls/{name}")


async def answered(echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> bool:
    """Whether somebody serves the service already."""
    try:
        return await echo(b"one", timeout=20, wait_for_ready=True) == b"one"
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False  # not yet found healthy


def unread(address: str, port: int) -> int:
    """Bytes that the kernel holds for whoever serves there (proc(5), /proc/net/tcp: established, its receive queue)."""
    here = f"{int.from_bytes(socket.inet_aton(address), 'little'):08X}:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[1] == here and row[3] == "01")


@pytest.mark.anyio
async def test_a_call_may_be_quiet_for_long(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    async with serving(loopback_net.next()) as (_, where), pair.running():
        publish_far(pair, "calls", where, AppProtocol.GRPC, TCP_CHECK)
        await healthy_at_b(pair, "calls")
        async with grpc.aio.insecure_channel(f"{pair.vip}:8080") as channel:
            assert await method(channel, "Late")(b"3.5", timeout=20) == b"late"


@pytest.mark.anyio
async def test_errors_deadlines_cancels_and_large_calls_pass(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    async with serving(loopback_net.next()) as (calls, where), pair.running():
        publish_far(pair, "calls", where, AppProtocol.GRPC, TCP_CHECK)
        await healthy_at_b(pair, "calls")
        async with grpc.aio.insecure_channel(f"{pair.vip}:8080", options=WIDE) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await method(channel, "Refuse")(b"this", timeout=20)
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
            assert refused.value.details() == "nothing like this"
            assert ("x-why", "because") in tuple(refused.value.trailing_metadata())

            with pytest.raises(grpc.aio.AioRpcError) as late:
                await method(channel, "Late")(b"30", timeout=1.5)  # on a busy machine it must have come by then
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await eventually(lambda: calls.cancelled == 1, 5)

            waiting = method(channel, "Late")(b"30", timeout=20)
            await eventually(lambda: calls.late_ones == 2, 5)
            waiting.cancel()
            await eventually(lambda: calls.cancelled == 2, 5)

            large = b"0123456789abcdef" * (16 << 16)  # 16 MiB, as much as a tunnel may be ahead of its reader
            call = method(channel, "Echo")(large, timeout=30, metadata=(("x-said", "m" * 58_000),))
            assert await call == large
            assert dict(await call.initial_metadata())["x-said"] == "m" * 58_000
        assert not pair.a.nacks and not pair.b.nacks


@pytest.mark.anyio
async def test_clients_that_do_not_read_hold_no_other_client_up(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    """All clients of an endpoint share the gateway's connection to it, and its window."""
    pair = Pair(tmp_path, loopback_net)
    async with serving(loopback_net.next()) as (calls, where), pair.running(), AsyncExitStack() as open_channels:
        pair.a.serve(pair.vip, service_of("calls", [where], AppProtocol.GRPC, check=TCP_CHECK))
        await pair.a.serving("egress/shop/calls/8080")

        async def new_channel() -> grpc.aio.Channel:
            # A channel of its own, as another process has: gRPC shares connections between equal ones.
            own = [*WIDE, ("grpc.use_local_subchannel_pool", 1)]
            return await open_channels.enter_async_context(grpc.aio.insecure_channel(f"{pair.vip}:8080", options=own))

        other = method(await new_channel(), "Echo")

        await eventually(lambda: answered(other), 10)
        stuck: list[grpc.aio.UnaryStreamCall[bytes, bytes]] = []
        for _ in range(4):
            channel = await new_channel()
            pump: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test.Calls/Pump")
            stuck.append(pump(b""))
            await stuck[-1].read()
        before = -1
        async with asyncio.timeout(20):
            while calls.pumped != before:  # until nothing more is taken from the server
                before = calls.pumped
                await asyncio.sleep(0.3)
        assert await other(b"two", timeout=5) == b"two"
        for call in stuck:
            call.cancel()


@pytest.mark.anyio
async def test_a_client_may_have_and_give_up_more_than_a_thousand_calls(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    """Envoy's own limits: 1,024 at a time, and a connection that gives up a thousand is closed with all others; so is
    that to the server, when they are given up at once."""
    pair = Pair(tmp_path, loopback_net)
    async with serving(loopback_net.next()) as (calls, where), pair.running():
        publish_far(pair, "calls", where, AppProtocol.GRPC, TCP_CHECK)
        await healthy_at_b(pair, "calls")
        async with grpc.aio.insecure_channel(f"{pair.vip}:8080") as channel:
            late = method(channel, "Late")
            quiet = late(b"300", timeout=300)
            for many in (1_050, 400):
                before, most = (calls.late_ones, calls.cancelled), many - 50
                others = [late(b"300", timeout=300) for _ in range(many)]
                await eventually(lambda: calls.late_ones >= before[0] + many, 60)  # noqa: B023 - asked here
                with pair.a.frozen():
                    for call in others:
                        call.cancel()
                    await eventually(lambda: unread(pair.vip, 8080) >= most * RESET_BYTES, 60)  # noqa: B023
                await eventually(lambda: calls.cancelled >= before[1] + most, 60)  # noqa: B023 - asked here
            assert await method(channel, "Echo")(b"two", timeout=20) == b"two"
            assert not quiet.done(), await quiet.details()
            quiet.cancel()


@pytest.mark.anyio
async def test_a_server_that_dies_with_a_thousand_calls_ends_no_call_with_another(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    """Envoy's own limit: a client's connection on which a thousand resets have still to be sent is closed."""
    pair = Pair(tmp_path, loopback_net)
    async with (
        serving(loopback_net.next()) as (_, where),
        serving(loopback_net.next()) as (other, elsewhere),
        Relay(where, loopback_net.next()) as relay,
        pair.running(),
        grpc.aio.insecure_channel(f"{pair.vip}:8080") as channel,
    ):

        async def begun(count: int) -> list[grpc.aio.UnaryStreamCall[bytes, bytes]]:
            begin: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test.Calls/Begin")
            calls = [begin(b"") for _ in range(count)]
            assert [await call.read() for call in calls] == [b"first"] * count
            return calls

        def serve(endpoint: tuple[str, int]) -> None:
            pair.a.serve(pair.vip, service_of("calls", [endpoint], AppProtocol.GRPC, check=TCP_CHECK))

        serve((relay.host, relay.port))
        await pair.a.serving("egress/shop/calls/8080")
        echo = method(channel, "Echo")
        await eventually(lambda: answered(echo), 10)
        doomed = await begun(1_050)
        serve(elsewhere)

        async def moved() -> bool:
            return await answered(echo) and other.echoed > 0

        await eventually(moved, 10)
        [quiet] = await begun(1)
        relay.cut()
        assert {await call.code() for call in doomed} == {grpc.StatusCode.INTERNAL}
        assert await echo(b"two", timeout=20) == b"two"
        assert not quiet.done(), await quiet.details()
        quiet.cancel()
