"""Serve what Envoy and the DNS servers are told, each on a unix socket of its own."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from isthmus_core.errors import InvalidInput
from isthmus_sync import Caller, Publishing, new_server, publisher_handler


@asynccontextmanager
async def feeding(
    path: Path, method: str, publishing: Publishing, *others: grpc.GenericRpcHandler
) -> AsyncIterator[None]:
    """Serve one publication, and what else belongs to it, to who may open the socket: what Envoy is told holds a key.

    Raises InvalidInput when nobody can listen at `path`.
    """

    @asynccontextmanager
    async def feed(_: Caller) -> AsyncIterator[Publishing]:
        yield publishing

    server: grpc.aio.Server = new_server([publisher_handler(method, lambda caller: caller, feed), *others])
    mask = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise InvalidInput(f"cannot listen on {path}: {error}", "Choose another data directory.") from error
    finally:
        os.umask(mask)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
        path.unlink(missing_ok=True)
