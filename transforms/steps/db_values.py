"""Values between JSON and PostgreSQL: parameters by the type the server wants, columns to the digit."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any

from psycopg.adapt import Loader

from connectors.errors import PermanentError
from connectors.postgres_cdc.types import ColumnType, TypeCatalog, encoder
from transforms.expressions.values import to_text
from transforms.steps.db_calls import as_json_text
from transforms.steps.js_integers import exact

_NUMERIC = 1700

Decode = Callable[[bytes], Any]


def bound(value: Any, kind: ColumnType) -> str | None:
    """Return a JSON value as the text of a parameter of that type. Raises PermanentError.

    For json and jsonb it is the JSON value itself, for bytea a text in base64, for an array a list.
    The server reads everything else as it reads a literal: `'7'` is an integer where one belongs.
    """
    try:
        return _text(value, kind)
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError(
            f"a value can't be bound as {kind.name}: {error}.",
            code="db_params",
            hint="Check what `params` render to for this event.",
        ) from None


def _text(value: Any, kind: ColumnType) -> str | None:
    if value is None:
        return None
    if kind.kind == "json":
        return as_json_text(value)
    if kind.kind == "array" and isinstance(value, list):
        assert kind.element is not None  # noqa: S101 - arrays have one
        return _array(value, kind.element, kind.delimiter)
    if kind.kind == "bytea" and isinstance(value, str):
        try:
            return f"\\x{base64.b64decode(value, validate=True).hex()}"
        except binascii.Error:
            raise ValueError("a text in base64 is expected") from None
    if isinstance(value, (dict, list)):
        return as_json_text(value)
    text = to_text(value)
    if "\x00" in text:
        raise ValueError("PostgreSQL has no texts with the character 0 in them")
    text.encode()
    return text


def _array(values: list[Any], element: ColumnType, delimiter: str) -> str:
    items = []
    for value in values:
        if isinstance(value, list) and element.kind != "json":
            items.append(_array(value, element, delimiter))
            continue
        text = _text(value, element)
        if text is None:
            items.append("NULL")
        else:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            items.append(f'"{escaped}"')
    return "{" + delimiter.join(items) + "}"


def loaders_of(
    catalog: TypeCatalog, oids: Iterable[int], *, numeric_as_number: bool
) -> dict[int, type[Loader]]:
    """Return a loader per type of the server's, from its text to a JSON value."""
    loaders: dict[tuple[Any, ...], type[Loader]] = {}
    found: dict[int, type[Loader]] = {}
    for oid in oids:
        kind = _resolved(catalog, oid, numeric_as_number=numeric_as_number)
        signature = _signature(kind)
        if signature not in loaders:
            loaders[signature] = _loader(_decoder(kind))
        found[oid] = loaders[signature]
    return found


def _resolved(catalog: TypeCatalog, oid: int, *, numeric_as_number: bool) -> ColumnType:
    kind = catalog.resolve(oid)
    return _with_numbers(kind) if numeric_as_number else kind


def _with_numbers(kind: ColumnType) -> ColumnType:
    if kind.oid == _NUMERIC:
        return ColumnType(kind.oid, kind.name, "float")
    if kind.element is not None:
        return ColumnType(
            kind.oid, kind.name, kind.kind, _with_numbers(kind.element), kind.delimiter
        )
    return kind


def _signature(kind: ColumnType) -> tuple[Any, ...]:
    inner = _signature(kind.element) if kind.element else None
    return kind.kind, inner, kind.delimiter


def _decoder(kind: ColumnType) -> Decode:
    match kind.kind:
        case "integer":
            return int
        case "bool":
            return lambda data: data == b"t"
        case "plain" | "text":
            return bytes.decode
        case _:
            to_json = encoder(kind)
            return lambda data: exact(to_json(data))


def _loader(decode: Decode) -> type[Loader]:
    class Load(Loader):
        def load(self, data: Any) -> Any:
            return decode(bytes(data))

    return Load
