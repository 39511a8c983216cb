"""Somebody who lives, subscribes and reads nothing, over real gRPC: when it is ended, and what is kept of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from integration.sync.peers import publication, serving
from isthmus_sync import CAPACITY, IMPORTS_METHOD, Caller, Publishing, open_channel, publisher_handler
from isthmus_sync.streams import Guard
from isthmus_sync.wire import Request
from support.waiting import eventually

pytestmark = pytest.mark.anyio

WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))
"""A client that takes 64 KiB and no more before it reads."""


class Counted:
    """Who is there, and what is left of those who were."""

    def __init__(self, guard: Guard) -> None:
        self.open = self.kept = 0
        self.reasons: list[str] = []
        self._guard = guard
        self._publication = publication(CAPACITY)
        with self._publication.change() as caches:
            for number in range(2_000):
                caches[CAPACITY].put(f"shop/s{number}/east", bytes(500))

    def identify(self, caller: Caller) -> Caller:
        self.kept += 1
        caller.when_gone(self._gone)
        return caller

    def _gone(self) -> None:
        self.kept -= 1

    @asynccontextmanager
    async def feed(self, _: Caller) -> AsyncIterator[Publishing]:
        self.open += 1
        try:
            yield Publishing(self._publication, on_disconnected=self.reasons.append, guard=self._guard)
        finally:
            self.open -= 1


async def subscribed(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(IMPORTS_METHOD)()
    await call.initial_metadata()
    await call.write(Request(type_url=CAPACITY, resource_names_subscribe=["*"]).SerializeToString())
    return call


async def test_who_reads_nothing_is_ended_costs_nothing_more_and_learns_why_when_it_reads(tmp_path: Path) -> None:
    counted = Counted(Guard(patience=0.3))
    handler = publisher_handler(IMPORTS_METHOD, counted.identify, counted.feed)
    async with serving(tmp_path / "s", handler) as target, open_channel(target, options=WINDOW) as channel:
        call = await subscribed(channel)
        await eventually(lambda: counted.reasons)
        assert counted.reasons == ["the subscriber has not answered for 0.3 s, although its connection lives"]
        await eventually(lambda: not counted.kept)
        assert isinstance(await call.read(), bytes), "what it was told before"
        with pytest.raises(grpc.aio.AioRpcError) as ending:
            await call.read()
        assert (ending.value.code(), ending.value.details()) == (grpc.StatusCode.UNAVAILABLE, counted.reasons[0])


async def test_what_grpc_cannot_get_rid_of_is_counted_until_the_connection_ends(tmp_path: Path) -> None:
    counted = Counted(Guard(first=1024 * 1024, most=1024 * 1024))
    handler = publisher_handler(IMPORTS_METHOD, counted.identify, counted.feed)
    async with serving(tmp_path / "s", handler) as target:
        async with open_channel(target, options=WINDOW) as channel:
            calls = [await subscribed(channel) for _ in range(3)]
            await eventually(lambda: counted.open == 3)
            for call in calls:
                await call.write(b"\xff\xff\xff")
            await eventually(lambda: not counted.open)
            assert counted.kept, "a status waits behind what nobody reads"
        await eventually(lambda: not counted.kept)
