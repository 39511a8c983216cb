"""The watched folder: real files, real inotify."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from isthmus_core.errors import InvalidInput
from isthmus_core.names import Locality, ServiceName
from isthmus_gateway.sources.files import FileSource
from isthmus_kit.tasks import own_tasks

pytestmark = pytest.mark.anyio

HERE = Locality("onprem", "berlin", "rack-1")
ECHO = ServiceName("shop", "echo")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def echo(port: int = 80, name: str = "echo") -> str:
    head = f"apiVersion: isthmus.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n"
    return head + f"spec:\n  ports: [{{port: {port}}}]\n"


def replace(path: Path, text: str) -> None:
    aside = path.with_name("." + path.name)
    aside.write_text(text)
    aside.rename(path)


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[FileSource]:
    source = FileSource(folder, HERE, CollectorRegistry())
    source.load()
    async with own_tasks() as tasks:
        tasks.start("files", source.run())
        await asyncio.sleep(0)
        yield source


def port_of(source: FileSource) -> int:
    return source.services.value[ECHO].ports[0].port


async def test_an_atomic_replacement_is_published_within_milliseconds(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    replace(file, echo(80))
    took = []
    async with watching(tmp_path) as source:
        for port in range(81, 101):
            start = time.perf_counter()
            replace(file, echo(port))
            await source.services.wait(lambda s, port=port: s[ECHO].ports[0].port == port, timeout=2)  # type: ignore[misc]
            took.append(time.perf_counter() - start)
    assert min(took) < 0.02, "nobody waits for more to come"


async def test_a_file_written_in_place_is_read_when_it_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(echo(80))
    async with watching(tmp_path) as source:
        with file.open("w") as out:
            out.write("spec: [")
            out.flush()
            await asyncio.sleep(0.05)
            assert port_of(source) == 80 and not source.state.value.problems
            out.seek(0)
            out.write(echo(81))
        await source.services.wait(lambda s: s[ECHO].ports[0].port == 81, timeout=2)


async def test_a_bad_file_keeps_its_last_good_content_and_the_others_go_on(tmp_path: Path) -> None:
    replace(tmp_path / "shop.yaml", echo(80))
    async with watching(tmp_path) as source:
        replace(tmp_path / "shop.yaml", echo(80).replace("port: 80", "port: 80000"))
        state = await source.state.wait(lambda s: bool(s.problems), timeout=2)
        assert str(state.problems[0]) == "shop.yaml:5:18: port 80000 is out of range. Use a number from 1 to 65535."
        replace(tmp_path / "other.yaml", echo(90, "other"))
        await source.services.wait(lambda s: ServiceName("shop", "other") in s, timeout=2)
        assert port_of(source) == 80
        replace(tmp_path / "shop.yaml", echo(82))
        await source.services.wait(lambda s: s[ECHO].ports[0].port == 82, timeout=2)
        assert source.state.value.sentence == ""


async def test_a_question_ends_the_sentence(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("kind: Sevice\n")
    async with watching(tmp_path) as source:
        state = await source.state.wait(lambda s: bool(s.problems), timeout=2)
        assert state.sentence == "shop.yaml:1:7: kind 'Sevice' is not known. Did you mean 'Service'?"


async def test_of_a_thousand_rubbish_files_the_first_few_are_named_and_good_ones_go_on(tmp_path: Path) -> None:
    replace(tmp_path / "shop.yaml", echo(80))
    async with watching(tmp_path) as source:
        for number in range(1000):
            (tmp_path / f"rubbish-{number:03}.yaml").write_bytes(b"\xff\x00: [" * 50)
        state = await source.state.wait(lambda s: len(s.problems) == 1000, timeout=10)
        assert "rubbish-004.yaml:1:1: the file is not UTF-8 text. Save it as UTF-8; and 995 more" in state.sentence
        assert len(state.sentence) < 1000
        replace(tmp_path / "other.yaml", echo(90, "other"))
        await source.services.wait(lambda s: ServiceName("shop", "other") in s, timeout=2)
        assert port_of(source) == 80


async def test_a_deleted_file_takes_its_services_away(tmp_path: Path) -> None:
    replace(tmp_path / "shop.yaml", echo(80))
    async with watching(tmp_path) as source:
        (tmp_path / "shop.yaml").unlink()
        await source.services.wait(lambda s: not s, timeout=2)


async def test_a_deleted_bad_file_is_not_named_any_more(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("kind: [")
    async with watching(tmp_path) as source:
        assert source.state.value.problems
        (tmp_path / "shop.yaml").unlink()
        await source.state.wait(lambda s: not s.problems, timeout=2)


async def test_an_editor_that_moves_the_file_away_first_withdraws_nothing(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(echo(80))
    async with watching(tmp_path) as source:
        seen: list[int] = []

        async def look() -> None:
            async for services in source.services.follow():
                seen.append(len(services))  # noqa: PERF401 - the list is read while the loop runs

        async with own_tasks() as tasks:
            tasks.start("look", look())
            file.rename(tmp_path / "shop.yaml~")
            await asyncio.sleep(0.02)
            file.write_text(echo(81))
            await source.services.wait(lambda s: ECHO in s and s[ECHO].ports[0].port == 81, timeout=2)
            await asyncio.sleep(0.2)
        assert set(seen) == {1}


async def test_a_renamed_file_keeps_its_services(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(echo(80))
    async with watching(tmp_path) as source:
        (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
        await asyncio.sleep(0.3)
        assert port_of(source) == 80 and not source.state.value.problems


async def test_a_folder_that_vanishes_takes_no_service_away_and_is_followed_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "services"
    folder.mkdir()
    replace(folder / "shop.yaml", echo(80))
    async with watching(folder) as source:
        folder.rename(tmp_path / "aside")
        state = await source.state.wait(lambda s: bool(s.folder), timeout=3)
        assert "cannot be read" in state.sentence and port_of(source) == 80
        shutil.rmtree(tmp_path / "aside")
        folder.mkdir()
        replace(folder / "shop.yaml", echo(81))
        await source.services.wait(lambda s: ECHO in s and s[ECHO].ports[0].port == 81, timeout=5)
        assert source.state.value.sentence == ""


async def test_a_folder_that_is_not_there_at_the_start_is_one_clear_sentence(tmp_path: Path) -> None:
    source = FileSource(tmp_path / "nowhere", HERE, CollectorRegistry())
    with pytest.raises(InvalidInput, match=r"cannot be read: No such file or directory\. Create it"):
        source.load()


async def test_pipes_folders_and_other_names_do_no_harm(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "notes.txt").write_text("kind: [")
    (tmp_path / ".hidden.yaml").write_text("kind: [")
    async with watching(tmp_path) as source:
        assert [p.place.file for p in source.state.value.problems] == ["folder.yaml", "pipe.yaml"]


async def test_a_name_that_no_text_can_hold_is_named_so_that_every_answer_can_hold_it(tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"\xff.yaml")
    strange.write_text(echo(80))
    (tmp_path / "two\nlines.yaml").write_text(echo(80))
    async with watching(tmp_path) as source:
        sentence = source.state.value.sentence
        assert "\\udcff.yaml: the name of this file cannot be shown. Rename it" in sentence
        assert "two\\nlines.yaml: the name" in sentence and sentence.encode("utf-8").isascii()
        assert source.services.value == {} and source.broken == {}
        strange.rename(tmp_path / "good.yaml")
        await source.services.wait(lambda services: bool(services), timeout=2)


async def test_a_link_that_leads_to_itself_is_named_with_a_mend_that_helps(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    async with watching(tmp_path) as source:
        assert "Too many levels of symbolic links. Put a YAML file in its place" in source.state.value.sentence


async def test_a_file_that_was_broken_before_the_start_says_what_it_said_last(tmp_path: Path) -> None:
    replace(tmp_path / "shop.yaml", echo(80))
    async with watching(tmp_path) as source:
        replace(tmp_path / "shop.yaml", "kind: [")
        await source.state.wait(lambda s: bool(s.problems), timeout=2)
        kept = source.broken
    assert kept == {"shop.yaml": echo(80).encode()}
    reborn = FileSource(tmp_path, HERE, CollectorRegistry())
    reborn.load(kept)
    assert port_of(reborn) == 80 and reborn.state.value.problems and reborn.broken == kept
    forgetful = FileSource(tmp_path, HERE, CollectorRegistry())
    forgetful.load({"shop.yaml": b"not ours any more"})
    assert forgetful.services.value == {}
