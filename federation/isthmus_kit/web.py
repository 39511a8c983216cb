"""Make and serve the small web application that every process has: /healthz, /readyz, /metrics."""

import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from isthmus_core.errors import InvalidInput, Refused, Unavailable
from isthmus_kit.listening import unusable_address
from isthmus_kit.readiness import Readiness
from isthmus_kit.tls_site import TlsSite

log = logging.getLogger(__name__)

# Whoever sends what is no HTTP gets a 400 for it; that is no error of ours and needs no traceback in the log.
_requests = logging.getLogger("isthmus_kit.web.requests")
_requests.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))

_IDLE_S = 5.0
"""Until a connection on which nothing is asked is closed, the first request included; aiohttp waits for an hour."""

WebHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATUS: tuple[tuple[type[Exception], int], ...] = ((InvalidInput, 400), (Refused, 403), (Unavailable, 503))


def json_response(body: object, status: int = 200) -> web.Response:
    """`body` (values of msgspec and the standard library) as a JSON answer."""
    encoded = orjson.dumps(msgspec.to_builtins(body, str_keys=True), option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=encoded, status=status, content_type="application/json")


@web.middleware
async def errors_as_sentences(request: web.Request, handler: WebHandler) -> web.StreamResponse:
    """Answer our own errors with their sentence and mend; bugs are logged once and say nothing of the inside."""
    try:
        return await handler(request)
    except (InvalidInput, Refused, Unavailable) as error:
        status = next(number for kind, number in _STATUS if isinstance(error, kind))
        return json_response({"error": error.sentence, "mend": error.mend}, status)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        error.text = orjson.dumps({"error": error.reason, "mend": ""}).decode() + "\n"
        error.content_type = "application/json"
        raise


def make_app(readiness: Readiness, registry: CollectorRegistry) -> web.Application:
    """An application with the three routes of every process; the caller adds its own."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        answer = {"ready": readiness.ready, "missing": readiness.missing(), "warnings": readiness.warnings()}
        return json_response(answer, 200 if readiness.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(middlewares=[errors_as_sentences])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve `app` on an address while the block runs; gives the port (the system's choice for 0).

    Raises InvalidInput when the address cannot be used.
    """
    runner = _runner(app)
    await runner.setup()
    site = TlsSite(runner, host, port, tls) if tls is not None else web.TCPSite(runner, host, port)
    try:
        try:
            await site.start()
        except OSError as error:
            raise unusable_address(f"{host}:{port}", error) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        if isinstance(site, TlsSite):
            site.abort()


@asynccontextmanager
async def serving_on_socket(app: web.Application, path: Path) -> AsyncIterator[None]:
    """Serve `app` on a unix socket that only its owner may open (0600) while the block runs."""
    runner = _runner(app)
    await runner.setup()
    try:
        await web.SockSite(runner, _private_socket(path)).start()
        yield
    finally:
        await runner.cleanup()
        with suppress(FileNotFoundError):
            path.unlink()


def _runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(
        app,
        access_log=None,
        logger=_requests,
        shutdown_timeout=1.0,
        keepalive_timeout=_IDLE_S,
        lingering_time=1.0,  # after an answer to half a request, to close in order
    )


def _private_socket(path: Path) -> socket.socket:
    """A unix socket bound to `path` that only its owner may open."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mask closes the moment between bind and chmod, in which anybody could connect. It is the whole process's: no
    # await may come between setting it and taking it back.
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        raise unusable_address(str(path), error) from error
    finally:
        os.umask(mask)
    return bound
