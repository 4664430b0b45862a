"""The schemas that a flow file declares: linked to each other, and found by `name` and `name@version`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from connectors.errors import FlowFileError
from schema_registry.documents import Document, outside
from schema_registry.validation import SchemaError, Validator


def split_key(key: str) -> tuple[str, str | None]:
    """Return subject and version of `name` or `name@version`."""
    subject, at, version = key.partition("@")
    return subject, version if at else None


class Linked:
    """Schemas by key, each with those that its `$ref`s name: `name`, `name@version`, and a `#…`."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas
        self._documents: dict[str, Document] = {}
        self._open: list[str] = []

    def document(self, key: str) -> Document:
        """Return a schema with all that it refers to. Raises SchemaError."""
        known = self._documents.get(key)
        if known is not None:
            return known
        if key in self._open:
            circle = " → ".join([*self._open[self._open.index(key) :], key])
            raise SchemaError(
                f"schemas refer to each other in a circle: {circle}.",
                (),
                hint="Put what refers to itself into one schema, under $defs.",
            )
        self._open.append(key)
        try:
            found = Document(
                self._schemas[key],
                {
                    name: self.document(name)
                    for name in sorted(outside(self._schemas[key]))
                    if name in self._schemas
                },
            )
        finally:
            self._open.pop()
        self._documents[key] = found
        return found


class SubjectVersions:
    """Compiled schemas by subject and version.

    `name` alone means the version that is declared under it, else the last one declared as
    `name@version`.
    """

    def __init__(self, validators: Iterable[Validator] = ()) -> None:
        self._by_name: dict[str, Validator] = {}
        plain = set()
        for validator in validators:
            self._by_name[f"{validator.subject}@{validator.version}"] = validator
            if not validator.pinned:
                plain.add(validator.subject)
            if not validator.pinned or validator.subject not in plain:
                self._by_name[validator.subject] = validator

    def names(self) -> list[str]:
        """Return everything that `validator` resolves, sorted."""
        return sorted(self._by_name)

    def validator(self, reference: str) -> Validator:
        """Return the schema of `name` or `name@version`. Raises FlowFileError `unknown_schema`."""
        try:
            return self._by_name[reference]
        except KeyError:
            raise FlowFileError(
                f"no schema {reference} is declared.",
                code="unknown_schema",
                hint=f"Declared: {', '.join(self.names()) or 'none'}.",
            ) from None
