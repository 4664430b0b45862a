"""The pages of the HTTP API and of the metrics, from the tables that serve them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.api.metrics import TABLE
from penstock.api.routes import described
from penstock.reference.markdown import block, code, page, table

_METHODS = ("get", "post", "put", "delete")


def api_page() -> str:
    """Return every operation with its parameters and the fields of its answer."""
    document = described()
    schemas = document["components"]["schemas"]
    operations = [
        (method.upper(), path, methods[method])
        for path, methods in document["paths"].items()
        for method in _METHODS
        if method in methods
    ]
    return page(
        "HTTP API",
        "What `penstock run` serves, by default at `http://127.0.0.1:8080`. `/api/v1/openapi.json` is the"
        " same for programs (OpenAPI 3.1). [How to use the API](../how-to/api.md) shows it at work;"
        " [metrics](metrics.md) are a page of their own. Fields marked *null* may be null.",
        table(
            ["Operation", "What it does"],
            [
                (f"[`{method} {path}`](#{operation['operationId']})", operation["summary"])
                for method, path, operation in operations
            ],
        ),
        *(part for one in operations for part in _operation(*one, schemas)),
        "## Errors\n\nEvery error, whatever its status, is a problem (RFC 9457) of type"
        " `application/problem+json`; its `code` is one of the [error codes](errors.md).",
        table(["Field", "Type", "Meaning"], _fields(schemas["Problem"], schemas)),
    )


def metrics_page() -> str:
    """Return every metric."""
    return page(
        "Metrics",
        "What `GET /metrics` gives, in Prometheus's text format. Counters count from the start of"
        " `penstock run`, and go on when a worker is started again. Labels hold names of the flow file"
        " and nothing of events.",
        table(
            ["Metric", "Type", "Labels", "Meaning"],
            [
                (code(each.name), each.kind, ", ".join(map(code, each.labels)), each.help)
                for each in TABLE
            ],
        ),
    )


def _operation(
    method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> Iterator[str]:
    yield f"## {operation['operationId']}"
    yield block(f"{method} {path}", "http")
    yield operation["summary"]
    yield operation.get("description", "")
    yield table(
        ["Parameter", "In", "Type", "Default", "Meaning"],
        [
            (
                code(each["name"]),
                each["in"],
                _type(each["schema"], schemas),
                _default(each["schema"]),
                each["description"],
            )
            for each in operation.get("parameters", ())
        ],
    )
    body = operation.get("requestBody")
    if body is not None:
        schema = _resolved(body["content"]["application/json"]["schema"], schemas)
        rows = _fields(schema, schemas)
        yield "Body, as JSON:"
        yield table(["Field", "Type", "Meaning"], rows)
    status = next(iter(operation["responses"]))
    for media_type, content in operation["responses"][status]["content"].items():
        schema = _resolved(content["schema"], schemas)
        if media_type == "application/json" and schema.get("properties"):
            yield "Answer:" if status == "200" else f"Answer, with status {status}:"
            yield table(["Field", "Type", "Meaning"], _fields(schema, schemas))


def _fields(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, str, str]]:
    """Return the fields of an object, each followed by those nested in it."""
    rows = []
    for name, field in schema.get("properties", {}).items():
        rows.append((code(f"{prefix}{name}"), _type(field, schemas), _described(field, schemas)))
        for part in _parts(field):
            inner, suffix = _resolved(part, schemas), "."
            if inner.get("type") == "array":
                inner, suffix = _resolved(inner["items"], schemas), "[]."
            rows += _fields(inner, schemas, f"{prefix}{name}{suffix}")
    return rows


def _parts(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the schemas that a field's value may fit."""
    found: list[Mapping[str, Any]] = schema.get("anyOf", [schema])
    return found


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    found: Mapping[str, Any] = schemas[reference.rpartition("/")[2]] if reference else schema
    return found


def _described(field: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    return str(field.get("description") or _resolved(field, schemas).get("description", ""))


_WORDS = {"string": "text", "boolean": "true or false", "object": "object"}


def _type(field: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    words = []
    for part in _parts(field):
        schema = _resolved(part, schemas)
        kind = str(schema.get("type", "any value"))
        if kind == "array":
            words.append(f"list of {_type(schema['items'], schemas)}")
        elif "enum" in schema:
            words.append(", ".join(code(value) for value in schema["enum"]))
        elif "const" in schema:
            words.append(code(str(schema["const"])))
        else:
            words.append("*null*" if kind == "null" else _WORDS.get(kind, kind))
    return " or ".join(words)


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return "" if default is None else code(str(default))
