"""Whether a document is a JSON Schema that can be registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from schema_registry.documents import Document, Place, check_references
from schema_registry.validation import SchemaError, compile_schema

if TYPE_CHECKING:
    import jsonschema_rs

_REFERRED = "penstock-schema:/"
"""Where the documents that a schema refers to are put for whoever compiles it."""


def check_schema(document: Document) -> None:
    """Raise SchemaError for what is no JSON Schema, or has a `$ref` that leads nowhere.

    Formats that are not known are let through: other programs may know them.
    """
    check_references(document)
    compile_schema(*bundled(document), any_format=True)


def bundled(document: Document) -> tuple[Any, jsonschema_rs.Registry | None]:
    """Return a schema and a registry in which all of its `$ref`s are found."""
    if not document.referred:
        return document.value, None
    import jsonschema_rs  # noqa: PLC0415 - a flow without schemas does without

    names: dict[int, str] = {}
    waiting: list[Document] = []

    def name_of(other: Document) -> str:
        if id(other) not in names:
            own = other.root.base
            # The compiler finds what lies behind an inner $id only from the whole's own.
            taken = ":" not in own or own in names.values()
            names[id(other)] = f"{_REFERRED}{len(names) + 1}" if taken else own
            waiting.append(other)
        return names[id(other)]

    value = _pointed(document, document.root, name_of)
    resources = []
    while waiting:
        other = waiting.pop()
        resources.append((names[id(other)], _pointed(other, other.root, name_of)))
    return value, jsonschema_rs.Registry(resources)


def _pointed(document: Document, place: Place, name_of: Callable[[Document], str]) -> Any:
    """Return the value with each `$ref` into another document pointed to where that is put."""
    value, base = place.value, document.base_of(place.value, place.base)
    if isinstance(value, list):
        return [_pointed(document, Place(document, each, base), name_of) for each in value]
    if not isinstance(value, dict):
        return value
    found = {
        name: _pointed(document, Place(document, each, base), name_of)
        for name, each in value.items()
    }
    target = value.get("$ref")
    if isinstance(target, str):
        try:
            other = document.follow(target, base).document
        except SchemaError:
            return found  # data in enum or const that looks like a $ref
        if other is not document:
            put = name_of(other)
            name, _, fragment = target.partition("#")
            if document.referred.get(name) is other:
                found["$ref"] = f"{put}#{quote(fragment, safe='/~%$')}"
            # Else it names an $id of the other, or within it, and is found by that.
    return found
