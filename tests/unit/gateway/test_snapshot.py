"""The snapshot on disk: written when things change, read at a start, and never half of one."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from isthmus_core.errors import InvalidInput
from isthmus_gateway.snapshot import Snapshot, SnapshotWriter, decode, encode, load, write
from isthmus_kit.tasks import own_tasks

pytestmark = pytest.mark.anyio

HERE = Snapshot(
    "here", {"type": {"name": ("v1", b"\x00\xff")}}, {"shop/echo": "127.80.0.1"}, {"a.yaml": b"kind"}, 7, 12
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def until(condition: object, timeout: float = 5) -> None:
    assert callable(condition)
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "snapshot", encode(HERE))
    assert load(tmp_path / "snapshot", "here") == (HERE, "")
    assert os.stat(tmp_path / "snapshot").st_mode & 0o777 == 0o600


async def test_no_snapshot_is_no_problem(tmp_path: Path) -> None:
    assert load(tmp_path / "snapshot", "here") == (None, "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"not a snapshot", "damaged"),
        (encode(HERE)[:-3], "damaged"),
        (encode(HERE)[:-3] + b"xyz", "checksum"),
        (msgspec.msgpack.encode([99, b"", b""]), "newer release"),
        (encode(msgspec.structs.replace(HERE, cluster="there")), "belongs to cluster there"),
        (encode(msgspec.structs.replace(HERE, vips={"shop/echo": "127.80.0.256"})), "damaged: '127.80.0.256'"),
        (encode(msgspec.structs.replace(HERE, zone_serial=-1)), "damaged"),
    ],
)
async def test_a_snapshot_that_cannot_be_used_is_named_and_set_aside(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=reason):
        decode(content, "here")
    snapshot, sentence = load(path, "here")
    assert snapshot is None and reason in sentence and "Starting without it" in sentence
    assert not path.exists() and path.with_name("snapshot.unusable").read_bytes() == content


async def test_changes_are_written_and_many_become_one(tmp_path: Path) -> None:
    path, serial = tmp_path / "snapshot", 0
    told: list[str] = []
    taken: list[int] = []

    def take() -> Snapshot:
        taken.append(serial)
        return msgspec.structs.replace(HERE, zone_serial=serial)

    writer = SnapshotWriter(path, take, told.append)
    async with own_tasks() as tasks:
        tasks.start("snapshot", writer.run())
        for serial in range(1, 50):  # noqa: B007 - `take` reads it
            writer.changed()
            await asyncio.sleep(0.001)
        await until(lambda: decode(path.read_bytes(), "here").zone_serial == 49 if path.exists() else False)
    assert len(taken) <= 3 and told == []


async def test_a_full_disk_keeps_the_old_snapshot_is_named_and_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    told: list[str] = []
    folder.mkdir()
    path = folder / "snapshot"
    write(path, encode(HERE))
    writer = SnapshotWriter(path, lambda: msgspec.structs.replace(HERE, zone_serial=8), told.append)
    # A directory in the way of the new file stands for every reason why it cannot be written, for root too.
    (folder / "snapshot.new").mkdir()
    async with own_tasks() as tasks:
        tasks.start("snapshot", writer.run())
        writer.changed()
        await until(lambda: told)
        assert "cannot be written" in told[0] and "The old one stays" in told[0]
        assert decode(path.read_bytes(), "here") == HERE
        (folder / "snapshot.new").rmdir()
        await until(lambda: told[-1] == "")
    assert decode(path.read_bytes(), "here").zone_serial == 8


async def test_a_device_without_space_leaves_the_old_file(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    path = tmp_path / "snapshot"
    write(path, encode(HERE))
    (tmp_path / "snapshot.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write(path, encode(HERE))
    assert load(path, "here") == (HERE, "")


async def test_what_is_not_written_yet_is_written_at_the_end(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path / "snapshot", lambda: HERE, lambda _: None)
    await writer.flush()
    assert not (tmp_path / "snapshot").exists()
    writer.changed()
    await writer.flush()
    assert load(tmp_path / "snapshot", "here")[0] == HERE


async def test_what_was_said_of_an_unusable_snapshot_is_taken_back_when_the_next_is_written(tmp_path: Path) -> None:
    told: list[str] = []
    writer = SnapshotWriter(tmp_path / "snapshot", lambda: HERE, told.append)
    writer.warn("it cannot be used")
    assert await writer.save() and await writer.save()
    assert told == ["it cannot be used", ""]
