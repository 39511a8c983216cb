"""Serve the routes over HTTPS: decode, check who asks, answer JSON, and turn every refusal into one sentence."""

import asyncio
import difflib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from aiohttp import web

from isthmus_controller.admin.errors import NotFound, Taken, TooLarge, TooSlow, Unidentified
from isthmus_controller.admin.openapi import openapi
from isthmus_controller.admin.routes import Ask, Query, Route
from isthmus_core.errors import InvalidInput, Refused, Unavailable
from isthmus_core.spiffe import Role
from isthmus_kit.tls import peer_of_tls
from isthmus_kit.web import json_response

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
BODY_S = 5.0
"""Whoever joins shows no certificate, and may send a body."""

_ETCD_MEND = "See 'isthmus status' for how etcd is, and try again when it answers; traffic goes on meanwhile."
"""Whatever else does not answer says itself what to do."""

_MEND = "Use the certificate and key that 'isthmus init' wrote."

WebHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def statuses(request: web.Request, handler: WebHandler) -> web.StreamResponse:
    """Errors that have a status of their own; the others are left to the web kit."""
    try:
        return await handler(request)
    except (NotFound, Taken, TooLarge, TooSlow, Unidentified) as error:
        return json_response({"error": error.sentence, "mend": error.mend}, error.status)
    except Unavailable as error:
        return json_response({"error": error.sentence, "mend": error.mend or _ETCD_MEND}, 503)
    except web.HTTPRequestEntityTooLarge:
        large = _too_large()
        return json_response({"error": large.sentence, "mend": large.mend}, large.status)
    except web.HTTPNotFound:
        return json_response({"error": f"there is no {request.path}", "mend": "See /openapi.json."}, 404)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return json_response(
            {"error": f"{request.path} does not take {request.method}", "mend": f"It takes {allowed}."}, 405
        )


def add_routes(
    app: web.Application, routes: Sequence[Route], domain: str, version: str, on_refused: Callable[[], None]
) -> None:
    """Add the routes, and the document that describes them, to an application of the web kit.

    `on_refused` hears of every caller whose certificate is none of an admin of ours.
    """
    app.middlewares.append(statuses)
    document = openapi(routes, version)

    async def describe(_: web.Request) -> web.Response:
        return json_response(document)

    app.router.add_get("/openapi.json", describe)
    for route in routes:
        app.router.add_route(route.method, route.path, _handler(route, domain, on_refused))


def _handler(route: Route, domain: str, on_refused: Callable[[], None]) -> WebHandler:
    allowed = {q.name for q in route.query}
    required = {q.name for q in route.query if q.required}

    async def handler(request: web.Request) -> web.Response:
        try:
            admin = "" if route.open else admin_of(request, domain)
        except Refused:
            on_refused()
            raise
        for name in request.query:
            if name not in allowed:
                raise InvalidInput(f"query parameter {name!r} is not known here", _nearest(name, sorted(allowed)))
        for name in sorted(required - request.query.keys()):
            raise InvalidInput(f"query parameter {name!r} is missing", _described(name, route.query))
        body = _decoded(route.takes, await _read(request)) if route.takes else None
        answer = await route.answer(Ask(dict(request.match_info), dict(request.query), body, admin))
        if not route.open and route.method != "GET":
            log.info("admin changed the federation", extra={"admin": admin, "route": f"{route.method} {request.path}"})
        return json_response(answer, route.status)

    return handler


async def _read(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except TimeoutError:
        raise TooSlow(f"the request's body did not come within {BODY_S:g} s", "Send it at once.") from None
    if len(body) > MAX_BODY:
        raise _too_large()
    return body


def _too_large() -> TooLarge:
    return TooLarge(f"the request is larger than {MAX_BODY} bytes", "No request of this API needs so many.")


def admin_of(request: web.Request, domain: str) -> str:
    """The name on the caller's admin certificate; raises Unidentified or Refused, also for clusters."""
    transport = request.transport
    peer = peer_of_tls(transport.get_extra_info("ssl_object") if transport else None, domain)
    if peer is None:
        raise Unidentified("this needs an admin certificate of the federation, and none was shown", _MEND)
    if peer.role is not Role.ADMIN or peer.admin is None:
        raise Refused(f"the certificate of {peer.id} is no admin certificate of {domain}", _MEND)
    return peer.admin


def _decoded(kind: type, body: bytes) -> object:
    fields = [field.encode_name for field in msgspec.structs.fields(kind)]
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        unknown = re.search(r"unknown field `([^`]*)`", text)
        if unknown:
            raise InvalidInput(f"field {unknown.group(1)!r} is not known", _nearest(unknown.group(1), fields)) from None
        raise InvalidInput(f"the request cannot be used: {text[:1].lower()}{text[1:]}", _shape(fields)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidInput("the request is no JSON", _shape(fields)) from None


def _shape(fields: Sequence[str]) -> str:
    return f"Send an object with {', '.join(fields)}; see /openapi.json."


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"It may have {', '.join(known)}." if known else "It takes none."


def _described(name: str, queries: Sequence[Query]) -> str:
    return next(q.description for q in queries if q.name == name)
