"""The web application of every process: what it answers, and how it takes its port or socket."""

import asyncio
import os
import socket
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from isthmus_core.errors import InvalidInput
from isthmus_kit.readiness import Readiness
from isthmus_kit.telemetry import new_registry
from isthmus_kit.web import make_app, serving, serving_on_socket

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_readyz_names_what_is_missing_until_nothing_is() -> None:
    readiness = Readiness("identity")
    async with serving(make_app(readiness, new_registry()), "127.0.0.1", 0) as port, aiohttp.ClientSession() as client:
        async with client.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["missing"] == {"identity": "not started yet"}
        readiness.set("identity", ok=True)
        async with client.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert answer.status == 200
        async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert "process_resident_memory_bytes" in await answer.text()


async def test_invalid_input_is_answered_with_its_sentence_and_mend() -> None:
    async def refuse(_: web.Request) -> web.Response:
        raise InvalidInput("no such service", "Export it first.")

    app = make_app(Readiness(), new_registry())
    app.router.add_get("/refuse", refuse)
    async with serving(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as client:
        async with client.get(f"http://127.0.0.1:{port}/refuse") as answer:
            assert answer.status == 400
            assert await answer.json() == {"error": "no such service", "mend": "Export it first."}
        async with client.get(f"http://127.0.0.1:{port}/nowhere") as answer:
            assert answer.status == 404
            assert (await answer.json())["error"] == "Not Found"


async def test_a_port_in_use_is_one_clear_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match="Another process listens there"):
            async with serving(make_app(Readiness(), new_registry()), "127.0.0.1", port):
                pass


async def test_the_socket_is_its_owners_only_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    async with serving_on_socket(make_app(Readiness(), new_registry()), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as client, client.get("http://agent/healthz") as answer:
            assert answer.status == 200
    assert not path.exists()


async def test_a_socket_path_that_is_too_long_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="shorter data directory"):
        async with serving_on_socket(make_app(Readiness(), new_registry()), tmp_path / ("x" * 120)):
            pass


async def test_sockets_that_start_together_leave_the_mask_of_the_process_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with AsyncExitStack() as stack:

            async def serve(name: str) -> None:
                app = make_app(Readiness(), new_registry())
                await stack.enter_async_context(serving_on_socket(app, tmp_path / name))

            async with asyncio.TaskGroup() as group:
                for name in ("a", "b", "c"):
                    group.create_task(serve(name), name=name)
            assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b", "c")] == [0o600] * 3
            assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
