"""The wire between a supervisor and its worker."""

import asyncio
import socket

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_dns.feeding.frames import FramedWire, Standing

pytestmark = pytest.mark.anyio


async def pair() -> tuple[FramedWire, FramedWire, list[Standing]]:
    ours, theirs = socket.socketpair()
    heard: list[Standing] = []
    return await FramedWire.over(ours), await FramedWire.over(theirs, heard.append), heard


async def test_messages_of_every_size_arrive_and_standings_between_them() -> None:
    ours, theirs, heard = await pair()
    sizes = [0, 1, 65_536, 5_000_000]

    async def send() -> None:
        ours.tell(Standing(connected=True))
        for size in sizes:
            await ours.write(bytes(size))
        ours.tell(Standing(connected=False, away=2.5))
        ours.close()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(send(), name="send")
        for size in sizes:
            assert await theirs.read() == bytes(size)
        assert await theirs.read() is None
    assert heard == [Standing(True), Standing(False, 2.5)]
    theirs.close()


async def test_a_message_that_is_cut_off_is_the_end() -> None:
    ours, theirs = socket.socketpair()
    wire = await FramedWire.over(theirs)
    ours.sendall(b"\0\0\0\x09\0half")
    ours.close()

    async with asyncio.timeout(5):
        assert await wire.read() is None
    wire.close()


async def test_a_frame_longer_than_any_message_is_refused() -> None:
    ours, theirs = socket.socketpair()
    wire = await FramedWire.over(theirs)
    ours.sendall(b"\xff\xff\xff\xff\0")

    async with asyncio.timeout(5):
        with pytest.raises(InvalidInput, match="longer than"):
            await wire.read()
    wire.close()
    ours.close()
