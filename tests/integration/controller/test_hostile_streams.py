"""A member that opens streams and keeps no rule on them: it is told so or waits, and others notice nothing."""

import isthmus_kit.tls13  # isort: skip  # noqa: F401 - before gRPC

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from integration.controller.test_hostile_members import Hostile, World, offers, running
from isthmus_controller.imports import MAX_NAMES
from isthmus_controller.listeners import MESSAGE_LIMIT
from isthmus_controller.openings import BURST
from isthmus_kit.tasks import own_tasks
from isthmus_sync import CAPACITY, CLUSTER, EXPORT, EXPORTS_METHOD, IMPORT, IMPORTS_METHOD
from isthmus_sync.wire import Request, Response
from support.etcd import Etcd

pytestmark = pytest.mark.anyio

Call = grpc.aio.StreamStreamCall[bytes, bytes]


def asking(type_url: str, *names: str) -> bytes:
    return Request(type_url=type_url, resource_names_subscribe=names).SerializeToString()


async def ended(call: Call) -> tuple[grpc.StatusCode, str]:
    """With which status and words a stream ends."""
    async with asyncio.timeout(30):
        with suppress(grpc.aio.AioRpcError):
            while isinstance(await call.read(), bytes):
                pass
        return await call.code(), await call.details() or ""


async def slowest(world: World, changes: int) -> float:
    """Seconds that the health of others took at most."""
    return max([await world.others_notice_nothing() for _ in range(changes)])


async def test_it_asks_for_so_many_names_and_no_more(etcd: Etcd, federation_name: str, tmp_path: Path) -> None:
    async with running(etcd, federation_name, tmp_path) as world:
        hostile = Hostile(world.x)
        call = await hostile.open(IMPORTS_METHOD)
        await call.write(asking(CAPACITY, *(f"junk/s{n}/x" for n in range(MAX_NAMES))))
        answer = await call.read()
        assert isinstance(answer, bytes) and len(Response.FromString(answer).removed_resources) == MAX_NAMES
        await call.write(asking(CAPACITY, "junk/one/more"))
        code, said = await ended(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert said == "a peer subscribed to more than 10000 names of one type. Subscribe to all of them: '*'."
        flood = await hostile.open(IMPORTS_METHOD)
        await flood.write(asking(CAPACITY, *(f"junk/s{n}/x" for n in range(900_000))))
        assert (await ended(flood))[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert await slowest(world, 3) < 5
        await hostile.channel.close()


async def test_a_message_has_20_mib_and_no_byte_more(etcd: Etcd, federation_name: str, tmp_path: Path) -> None:
    async with running(etcd, federation_name, tmp_path) as world:
        hostile = Hostile(world.x)
        message = Response(type_url="x", control_plane={"identifier": ""})
        for length, code, words in (
            (MESSAGE_LIMIT, grpc.StatusCode.INVALID_ARGUMENT, "the peer sent resources of type 'x'"),
            (MESSAGE_LIMIT + 1, grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
        ):
            message.control_plane.identifier = "y" * length
            message.control_plane.identifier = "y" * (2 * length - message.ByteSize())
            assert message.ByteSize() == length
            call = await hostile.open(EXPORTS_METHOD)
            await call.write(message.SerializeToString())
            ending = await ended(call)
            assert ending[0] is code and words in ending[1]
        assert await slowest(world, 3) < 5
        await hostile.channel.close()


async def test_it_opens_streams_again_and_again(etcd: Etcd, federation_name: str, tmp_path: Path) -> None:
    async with running(etcd, federation_name, tmp_path) as world:
        hostile, refusals = Hostile(world.x), []

        async def storm() -> None:
            for _ in range(BURST + 100):
                call = hostile.channel.stream_stream(EXPORTS_METHOD)()
                async with asyncio.timeout(10):
                    if not await call.initial_metadata():
                        refusals.append(await call.details())
                call.cancel()

        async with own_tasks() as owner:
            storming = owner.once("a storm", storm())
            waited = 0.0
            while not storming.done():
                waited = max(waited, await world.others_notice_nothing())
        print(f"health of others took {waited:.3f} s at most; {len(refusals)} streams were refused")
        assert waited < 5
        assert len(refusals) > 10  # of a hundred; the slower they come, the more are taken
        assert "for now no cluster may open more than 4 a second" in str(refusals[-1])
        await hostile.channel.close()


@pytest.mark.parametrize("behaviour", ["never reads", "never answers", "refuses everything and asks again"])
async def test_it_takes_what_it_is_told_and(etcd: Etcd, federation_name: str, tmp_path: Path, behaviour: str) -> None:
    async with running(etcd, federation_name, tmp_path) as world:
        hostile = Hostile(world.x)
        call = await hostile.open(EXPORTS_METHOD)
        assert await hostile.refusals(call, EXPORT, offers(1_500)) == ("", 0)
        calls = [await hostile.open(IMPORTS_METHOD) for _ in range(60)]
        for stream in calls:
            for type_url in (CLUSTER, IMPORT, CAPACITY):
                await stream.write(asking(type_url, "*"))
        async with own_tasks() as owner:
            reading = [owner.once("a reader", read(stream, behaviour)) for stream in readers(calls, behaviour)]
            waited = await slowest(world, 20)
            for task in reading:
                task.cancel()
        print(f"health of others took {waited:.3f} s at most, beside 60 streams of one that {behaviour}")
        assert waited < 5
        await hostile.channel.close()


def readers(calls: Sequence[Call], behaviour: str) -> Sequence[Call]:
    return {"never reads": calls[:0], "never answers": calls}.get(behaviour, calls[:4])


async def read(call: Call, behaviour: str) -> None:
    while isinstance(payload := await call.read(), bytes):
        if behaviour == "never answers":
            continue
        response = Response.FromString(payload)
        refusal = Request(type_url=response.type_url, response_nonce=response.nonce, resource_names_subscribe=["*"])
        refusal.error_detail.message = "no"
        await call.write(refusal.SerializeToString())
