"""Make the OpenAPI document of the admin API from the types of its routes."""

import re
from collections.abc import Sequence

import msgspec

from isthmus_controller.admin.routes import Route
from isthmus_controller.admin.values import Problem

_REF = "#/components/schemas/{name}"


def openapi(routes: Sequence[Route], version: str) -> dict[str, object]:
    """The document (OpenAPI 3.1) as it is served at /openapi.json."""
    types = list(dict.fromkeys([t for r in routes for t in (r.returns, r.takes) if t is not None] + [Problem]))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Isthmus admin API",
            "version": version,
            "description": "The federation as its administrators see and change it. Errors are one sentence each.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "admin": {"type": "mutualTLS", "description": "An admin certificate, as `isthmus init` makes it."}
            },
        },
    }


def _operation(route: Route, schema_of: dict[type, dict[str, object]]) -> dict[str, object]:
    problem = {"description": "Refused, with a sentence", "content": _json(schema_of[Problem])}
    operation: dict[str, object] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "security": [] if route.open else [{"admin": []}],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            str(route.status): {"description": "Done", "content": _json(schema_of[route.returns])},
            "4XX": problem,
            "503": problem,
        },
    }
    if route.takes is not None:
        operation["requestBody"] = {"required": True, "content": _json(schema_of[route.takes])}
    return operation


def _json(schema: dict[str, object]) -> dict[str, object]:
    return {"application/json": {"schema": schema}}


def _path_parameters(route: Route) -> list[dict[str, object]]:
    names = re.findall(r"{(\w+)}", route.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(route: Route) -> list[dict[str, object]]:
    return [
        {
            "name": q.name,
            "in": "query",
            "required": q.required,
            "description": q.description,
            "schema": {"type": "string"},
        }
        for q in route.query
    ]


def _operation_id(route: Route) -> str:
    words = [w for w in re.split(r"[/{}]+", route.path) if w and w != "v1"]
    return "_".join([route.method.lower(), *words])
