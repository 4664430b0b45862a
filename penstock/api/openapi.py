"""The OpenAPI 3.1 document of the routes, made from the same table that serves them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from connectors.settings import Settings
from penstock.api import registry_wire
from penstock.api.access import OPEN_PATHS, READING
from penstock.api.calls import Route
from penstock.api.errors import MEDIA_TYPE
from penstock.api.registry_wire import is_registry

Json = dict[str, Any]

PATH_NAMES = {
    "pipeline": "A pipeline of the flow.",
    "id": "The whole id of a dead letter.",
    "replay": "The number of a replay.",
    "backfill": "The number of a backfill.",
    "subject": "A subject of the schema registry.",
    "version": "A subject's version: a number from 1, or `latest`.",
    "schema_id": "The id of a schema, which messages carry.",
    "guid": "The guid of a schema.",
    "execution": "An execution's id, or the start of it.",
}
"""What stands for what in a path."""

_PROBLEM: Json = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail", "instance", "code", "hint"],
    "properties": {
        "type": {"type": "string", "description": "`urn:penstock:error:` and the code."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What happened, in a sentence."},
        "instance": {"type": "string", "description": "The path that was called."},
        "code": {"type": "string", "description": "The error's code; see the error reference."},
        "hint": {"type": "string", "description": "What to do; may be empty."},
        "errors": {
            "type": "array",
            "description": "What is wrong with each part of the request.",
            "items": {
                "type": "object",
                "required": ["place", "message"],
                "properties": {"place": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

_REGISTRY_ERROR: Json = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {
        "error_code": {"type": "integer", "description": "Confluent's number, such as 40401."},
        "message": {"type": "string", "description": "What happened, and what to do."},
    },
}


def openapi_document(routes: Sequence[Route]) -> Json:
    """Return the document."""
    schemas = _schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": version("penstock"),
            "summary": "A running flow: how it is, what failed, and what to do about it.",
            "description": "Served by `penstock run`. Errors are RFC 9457 problems. Lists that come in"
            " pages give a `cursor`, which asks for the next page. Where `server.tokens` is set,"
            " every call but those of probes shows a token; one that changes something, a token"
            " that may write.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": _PROBLEM},
            "responses": {
                "Problem": {
                    "description": "An error.",
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                },
                "RegistryError": {
                    "description": "An error, as Confluent's Schema Registry tells it.",
                    "content": {registry_wire.MEDIA_TYPE: {"schema": _REGISTRY_ERROR}},
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A line of `server.tokens`.",
                }
            },
        },
        "tags": [{"name": name} for name in dict.fromkeys(map(_tag, routes))],
    }


def _schemas(routes: Sequence[Route]) -> dict[str, Json]:
    answers = [route.answer for route in routes if route.answer is not None]
    taken = [model for route in routes for model in (route.query, route.body) if model is not None]
    models: list[tuple[type[Settings], Any]] = [(model, "serialization") for model in answers]
    models += [(model, "validation") for model in taken]
    found = models_json_schema(
        list(dict.fromkeys(models)), ref_template="#/components/schemas/{model}"
    )[1]
    schemas: dict[str, Json] = found.get("$defs", {})
    return {name: _flat(schema) for name, schema in sorted(schemas.items())}


def _flat(schema: Any) -> Any:
    """Return the schema without titles that only repeat names, each description on one line."""
    match schema:
        case dict():
            flat = {
                key: _flat(value)
                for key, value in schema.items()
                if not (key == "title" and isinstance(value, str))
            }
            if isinstance(flat.get("description"), str):
                flat["description"] = " ".join(flat["description"].split())
            return flat
        case list():
            return [_flat(item) for item in schema]
    return schema


def _operation(route: Route, schemas: dict[str, Json]) -> Json:
    summary, _, description = inspect.cleandoc(route.handle.__doc__ or "").partition("\n")
    operation: Json = {
        "operationId": route.name,
        "tags": [_tag(route)],
        "summary": summary,
        "responses": {
            str(route.status): _answer(route),
            **{str(status): _answer(route) for status in route.statuses},
            "default": {"$ref": f"#/components/responses/{_refusal(route)}"},
        },
        # Open where no tokens are set.
        "security": [{}] if route.path in OPEN_PATHS else [{"token": []}, {}],
    }
    if description.strip():
        operation["description"] = " ".join(description.split())
    if route.method not in READING:
        told = "Needs a token that may write, where tokens are set."
        operation["description"] = f"{operation.get('description', '')} {told}".strip()
    parameters = [*_path_parameters(route), *_query_parameters(route, schemas)]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        reference = {"$ref": f"#/components/schemas/{route.body.__name__}"}
        required = bool(schemas[route.body.__name__].get("required"))
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": reference}},
        }
    return operation


def _refusal(route: Route) -> str:
    return "RegistryError" if is_registry(route.path) else "Problem"


def _tag(route: Route) -> str:
    if is_registry(route.path):
        return "schema registry"
    if not route.path.startswith("/api/"):
        return "probes"
    if "/executions" in route.path:
        return "executions"
    if "/backfill" in route.path:
        return "backfills"
    return "dead letters" if "/dlq/" in route.path else "flow"


def _answer(route: Route) -> Json:
    schema: Json = {"type": "string"}
    described = "Text."
    if is_registry(route.path):
        schema, described = {}, "JSON, as Confluent's Schema Registry answers it."
    elif route.answer is None and route.media_type == "application/json":
        schema, described = {"type": "object"}, "A JSON object."
    elif route.answer is not None:
        schema = {"$ref": f"#/components/schemas/{route.answer.__name__}"}
        described = inspect.cleandoc(route.answer.__doc__ or "").partition("\n")[0]
    media_type = route.media_type.partition(";")[0]
    return {"description": described, "content": {media_type: {"schema": schema}}}


def _path_parameters(route: Route) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_NAMES[name],
            "schema": {"type": "string"},
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]


def _query_parameters(route: Route, schemas: dict[str, Json]) -> list[Json]:
    if route.query is None:
        return []
    schema = schemas[route.query.__name__]
    required = schema.get("required", [])
    parameters = []
    for name, field in schema["properties"].items():
        described = dict(field)
        parameter = {"name": name, "in": "query", "required": name in required}
        parameter["description"] = described.pop("description", "")
        parameter["schema"] = described
        parameters.append(parameter)
    return parameters
