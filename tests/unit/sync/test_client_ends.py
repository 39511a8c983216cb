"""A client that is asked to end ends, also at the very moment at which its stream breaks."""

import asyncio
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from isthmus_sync import CAPACITY, EXPORTS_METHOD, Publication, Publishing, ResourceCache, publish
from isthmus_sync.subscribing import ACCEPTED

pytestmark = pytest.mark.anyio


class BreakingCall:
    """The peer subscribes once, and then says nothing; writing fails as soon as `broken` is set."""

    def __init__(self) -> None:
        self.broken = asyncio.Event()
        self.writing = asyncio.Event()
        self._asked = False

    async def initial_metadata(self) -> tuple[tuple[str, str], ...]:
        return (ACCEPTED,)

    async def read(self) -> bytes:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return DeltaDiscoveryRequest(type_url=CAPACITY, resource_names_subscribe=["*"]).SerializeToString()

    async def write(self, _: bytes) -> None:
        self.writing.set()
        await self.broken.wait()
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "gone")

    def cancel(self) -> bool:
        return True

    def add_done_callback(self, _: object) -> None:
        return None


class Channel:
    def __init__(self, call: BreakingCall) -> None:
        self._call = call

    def stream_stream(self, _: str) -> Any:
        return lambda: self._call

    async def close(self) -> None:
        return None


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancellation_that_meets_the_end_of_the_stream_is_not_lost(steps: int) -> None:
    call = BreakingCall()
    publication = Publication([ResourceCache(CAPACITY)])
    with publication.change() as caches:
        caches[CAPACITY].put("shop/echo", b"")
        caches[CAPACITY].mark_synced()

    def dial(_: int) -> grpc.aio.Channel:
        return cast("grpc.aio.Channel", Channel(call))

    async with asyncio.timeout(2), asyncio.TaskGroup() as group:
        task = group.create_task(publish(dial, EXPORTS_METHOD, Publishing(publication)), name="publish")
        await call.writing.wait()
        call.broken.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
