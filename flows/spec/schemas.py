"""Compiles the JSON Schemas that a flow declares; a bad one is reported at the part that is wrong."""

from __future__ import annotations

from flows.spec.nodes import Mapping, place_of, plain
from flows.spec.problems import Problems
from schema_registry.validation import SchemaError, compile_schema


def check_schemas(tree: Mapping, problems: Problems) -> None:
    """Compile each `data_schema` of the flow."""
    schemas = tree.mapping("schemas")
    for entry in schemas.entries.values() if schemas else ():
        schema = (
            entry.value.entries.get("data_schema") if isinstance(entry.value, Mapping) else None
        )
        if schema is None or not isinstance(schema.value, Mapping):
            continue
        try:
            compile_schema(plain(schema.value))
        except SchemaError as error:
            place, width = place_of(schema.value, error.path, schema.key)
            problems.add(place, error.message, code=error.code, hint=error.hint, width=width)
