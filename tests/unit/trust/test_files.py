"""Files are written whole or not at all."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus_core.errors import InvalidInput, Unavailable
from isthmus_kit.files import make_folder, read_file, unwritable, write_file


def test_a_file_is_replaced_whole_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_symbolic_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"theirs")
    (tmp_path / "key").symlink_to(tmp_path / "other")
    write_file(tmp_path / "key", b"ours")
    assert (tmp_path / "other").read_bytes() == b"theirs" and not (tmp_path / "key").is_symlink()


def test_what_stands_in_the_way_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(InvalidInput, match=r"cannot be written: is a directory\. A folder stands there"):
        write_file(tmp_path / "key", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file or directory"):
        write_file(tmp_path / "nowhere" / "key", b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InvalidInput, match="permission denied"):
        write_file(tmp_path / "key", b"x")
    with pytest.raises(InvalidInput, match="permission denied"):
        make_folder(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_has_its_own_sentence(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError) as caught:
        full.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    problem = unwritable(tmp_path / "snapshot", caught.value)
    assert isinstance(problem, Unavailable)
    assert str(problem).endswith("the disk is full. Free some space; what was there before is still there.")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(InvalidInput, match="is a file, not a folder"):
        make_folder(tmp_path / "data")
    with pytest.raises(InvalidInput, match="cannot be written"):
        make_folder(tmp_path / "data" / "below")


def test_a_missing_file_is_named_with_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"the key is missing: there is no .*key\. Make it"):
        read_file(tmp_path / "key", "the key", "Make it.")
    with pytest.raises(InvalidInput, match="the key cannot be read"):
        read_file(tmp_path, "the key", "Make it.")


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "snapshot").write_bytes(b"old")
    script = (
        "import resource, sys, pathlib\n"
        "from isthmus_core.errors import IsthmusError\n"
        "from isthmus_kit.files import write_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_file(pathlib.Path(sys.argv[1]), b'x' * 4096)\n"
        "except IsthmusError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "snapshot")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert "snapshot cannot be written: file too large" in said
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("snapshot", b"old")]
