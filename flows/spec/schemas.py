"""Compiles the JSON Schemas that a flow declares; a bad one is reported at the part that is wrong."""

from __future__ import annotations

from functools import partial
from typing import Any

from flows.spec.nodes import Entry, Mapping, Scalar, place_of, plain
from flows.spec.problems import Problems
from schema_registry.checking import bundled
from schema_registry.documents import Document, check_storable
from schema_registry.redaction import marks_secrets, masked
from schema_registry.subjects import Linked, split_key
from schema_registry.validation import SchemaError, Validator, compile_schema

WITHOUT_VERSION = "1"
"""What a version that nobody has written is called."""


def check_schemas(tree: Mapping, problems: Problems) -> None:
    """Compile each `data_schema` of the flow, with those that it refers to."""
    entries = declared(tree)
    _check_versions(entries, problems)
    found = {
        key: entry.value.entries["data_schema"]
        for key, entry in entries.items()
        if isinstance(entry.value, Mapping) and "data_schema" in entry.value.entries
    }
    schemas = {key: plain(entry.value) for key, entry in found.items()}
    linked = Linked({k: v for k, v in schemas.items() if isinstance(v, (dict, bool))})
    for key, entry in found.items():
        if not isinstance(schemas[key], (dict, bool)):
            continue  # the model has said so
        try:
            check_storable(schemas[key])
            compile_schema(*bundled(linked.document(key)))
        except SchemaError as error:
            place, width = place_of(entry.value, error.path, entry.key)
            problems.add(place, error.message, code=error.code, hint=error.hint, width=width)


def declared(tree: Mapping) -> dict[str, Entry]:
    """Return the schemas that the flow declares, by key."""
    schemas = tree.mapping("schemas")
    return dict(schemas.entries) if schemas else {}


def version_of(key: str, entry: Entry) -> str | None:
    """Return what the flow calls the version of a schema; None where it says nothing."""
    pinned = split_key(key)[1]
    if pinned is not None:
        return pinned
    version = entry.value.get("version") if isinstance(entry.value, Mapping) else None
    return version.raw if isinstance(version, Scalar) else None


def _check_versions(entries: dict[str, Entry], problems: Problems) -> None:
    """Refuse a version that its key contradicts, and one that is declared twice."""
    seen: dict[str, Entry] = {}
    for key, entry in entries.items():
        subject, pinned = split_key(key)
        version = entry.value.get("version") if isinstance(entry.value, Mapping) else None
        if pinned is not None and isinstance(version, Scalar) and version.raw != pinned:
            problems.add(
                version.place,
                f"the key says version {pinned}, and this says {version.raw}.",
                code="schema_version_differs",
                hint="Leave version out: the key has it.",
                width=version.width,
            )
        name = f"{subject}@{version_of(key, entry) or WITHOUT_VERSION}"
        first = seen.setdefault(name, entry)
        if first is not entry:
            problems.add(
                entry.key.place,
                f"{name} is declared twice: here and on line {first.key.place.line}.",
                code="schema_version_twice",
                hint="Give one of them another version.",
                width=entry.key.width,
            )


def link(schemas: dict[str, Any]) -> dict[str, Document]:
    """Return key → schema with all that it refers to, of a flow in which nothing is wrong."""
    linked = Linked(schemas)
    return {key: linked.document(key) for key in schemas}


def validator_of(key: str, document: Document, version: str | None, kind: Any) -> Validator:
    """Return what checks values against a declared schema."""
    subject, pinned = split_key(key)
    value, registry = bundled(document)
    return Validator(
        value,
        subject=subject,
        version=version or WITHOUT_VERSION,
        kind=kind,
        pinned=pinned is not None,
        registry=registry,
        mask=partial(masked, document) if marks_secrets(document) else None,
    )
