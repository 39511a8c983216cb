"""A cluster is taken out of the federation while it has connections open, and connections to it are open."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import grpc
import pytest

from isthmus_gateway.envoy.process import DRAIN_S
from isthmus_kit.calls import end_call
from support.federation import Federation, Member
from support.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

BUSY_S = 10
"""How much later than promised something may end on a busy machine."""


class Line:
    """A TCP connection through two gateways that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        self._reader, self._writer, self._name = reader, writer, name

    @classmethod
    @asynccontextmanager
    async def to(cls, cluster: str, member: Member, service: str) -> AsyncIterator["Line"]:
        """From a client in `member`'s cluster to a service of `cluster`."""

        async def connected() -> Line | None:
            reader, writer = await asyncio.open_connection(vip, 9000)
            line = cls(reader, writer, cluster)
            if await line.answers("first"):
                return line
            line.close()
            return None

        vip = await asyncio.to_thread(member.vip, service)
        line = await eventually(connected, within=20, every=0.1)
        assert line is not None
        try:
            yield line
        finally:
            line.close()

    async def answers(self, word: str) -> bool:
        try:
            self._writer.write(f"{word}\n".encode())
            return await self._reader.readline() == f"{self._name} {word}\n".encode()
        except ConnectionError:
            return False

    async def ended(self) -> None:
        with suppress(ConnectionError):
            assert await self._reader.read() == b""

    def close(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def calls_at(member: Member) -> AsyncIterator[None]:
    """A gRPC service shop/calls that repeats what is said on a stream."""

    async def repeat(said: AsyncIterator[bytes], _: "grpc.aio.ServicerContext[bytes, bytes]") -> AsyncIterator[bytes]:
        async for word in said:
            yield word

    server = grpc.aio.server()
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Say": grpc.stream_stream_rpc_method_handler(repeat)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    server.add_insecure_port(f"{member.net.address(10)}:7000")
    await server.start()
    member.offer("calls", 7000, protocol="grpc", check="tcp: {}")
    try:
        yield
    finally:
        await server.stop(None)


async def talking(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[bytes, bytes] | None:
    """A stream on which something was said and heard; None while nobody is found healthy."""
    say: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/test.Echo/Say")
    stream = say(wait_for_ready=True)
    try:
        await stream.write(b"word")
        assert await stream.read() == b"word"
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        end_call(stream)  # a write that fails meanwhile leaves it half ended
        return None
    return stream


async def test_what_a_removed_cluster_has_open_ends_and_other_clusters_notice_nothing(two: Federation) -> None:
    west = two["west"]
    leaver = Member(two, "leaver", "aws/eu-west-1/a")
    leaver.join()
    leaver.start()
    try:
        leaver.wait_ready()
        for member, service in ((west, "there"), (leaver, "back")):
            member.start_backend(port=9000)
            member.offer(service, 9000, protocol="tcp")
        async with AsyncExitStack() as open_:
            await open_.enter_async_context(calls_at(west))
            stays = await open_.enter_async_context(Line.to("west", two["east"], "there"))
            there = await open_.enter_async_context(Line.to("west", leaver, "there"))
            back = await open_.enter_async_context(Line.to("leaver", west, "back"))
            vip = await asyncio.to_thread(leaver.vip, "calls")
            channel = await open_.enter_async_context(grpc.aio.insecure_channel(f"{vip}:7000"))
            stream = await eventually(lambda: talking(channel), within=20, every=0.1)
            assert stream is not None

            await asyncio.to_thread(two.cli, "cluster", "remove", "leaver", "--yes")
            async with asyncio.timeout(DRAIN_S + BUSY_S):
                await there.ended()
                await back.ended()
                with pytest.raises(grpc.aio.AioRpcError):
                    await stream.read()
            assert await stays.answers("still")
    finally:
        leaver.ask_to_stop()
        leaver.stop()
        two.cli("cluster", "remove", "leaver", "--yes", ok=False)
