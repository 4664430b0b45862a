"""The table that is written to, as the server's catalog has it: columns, types, keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import FatalError
from connectors.postgres_cdc.connection import Connection

_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


@dataclass(frozen=True, slots=True)
class TableName:
    """A table's name as the server stores it; without a schema the search path decides."""

    schema: str | None
    table: str

    @property
    def sql(self) -> str:
        """The name, quoted."""
        own = quoted(self.table)
        return own if self.schema is None else f"{quoted(self.schema)}.{own}"


def parse_table(text: str) -> TableName:
    """Return the name that `schema.table` means: unquoted parts are folded to lower case."""
    parts = [
        inner.replace('""', '"') if inner else plain.lower() for inner, plain in _PART.findall(text)
    ]
    return TableName(parts[0] if len(parts) > 1 else None, parts[-1])


def quoted(name: str) -> str:
    """Return an identifier with its quotes."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `type` as SQL writes it."""

    name: str
    type: str
    generated: bool
    """The server computes it: what an event has for it is left out."""
    identity: bool
    """GENERATED ALWAYS AS IDENTITY: written with OVERRIDING SYSTEM VALUE."""
    required: bool
    """NOT NULL, and nothing stands in for it."""

    @property
    def read_as(self) -> str:
        """The type that JSON is read as: bytea is base64 there."""
        return "text" if self.type == "bytea" else self.type

    def converted(self, place: str) -> str:
        r"""Return the SQL that makes the column's value of what was read; `\x…` is taken too."""
        if self.type != "bytea":
            return place
        return (
            rf"CASE WHEN {place} LIKE '\\x%' THEN {place}::bytea ELSE decode({place}, 'base64') END"
        )


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table's columns by name, and what identifies its rows."""

    name: TableName
    columns: dict[str, Column]
    primary_key: tuple[str, ...]
    unique: tuple[frozenset[str], ...]
    """The columns of each unique constraint and index that ON CONFLICT can go by."""


_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '',
       a.attidentity = 'a', a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""
_KEYS = """
SELECT i.indisprimary, array_agg(a.attname::text ORDER BY k.turn)
  FROM pg_catalog.pg_index i
       CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, turn)
       JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = %s::oid AND i.indisunique AND i.indisvalid AND i.indimmediate
       AND i.indpred IS NULL AND i.indexprs IS NULL AND k.turn <= i.indnkeyatts
 GROUP BY i.indexrelid, i.indisprimary
"""


def oid_of(connection: Connection, name: TableName) -> int | None:
    """Return the table's oid, None when there is none that this user can see. Raises psycopg.Error."""
    row = connection.execute("SELECT to_regclass(%s)::oid", [name.sql]).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def read_shape(connection: Connection, name: TableName) -> TableShape:
    """Read the table from the catalog. Raises FatalError when it is not there, psycopg.Error."""
    oid = oid_of(connection, name)
    if oid is None:
        raise FatalError(
            f"the table {name.sql} does not exist.",
            code="postgres_table_missing",
            hint="Create it, or correct `table`: unquoted names are folded to lower case.",
        )
    columns = {row[0]: Column(*row) for row in connection.execute(_COLUMNS, [oid])}
    keys: list[tuple[Any, ...]] = connection.execute(_KEYS, [oid]).fetchall()
    primary = next((tuple(names) for is_primary, names in keys if is_primary), ())
    return TableShape(name, columns, primary, tuple(frozenset(names) for _, names in keys))


def keys_of(shape: TableShape, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that upsert and merge go by. Raises FatalError when they can't."""
    keys = tuple(wanted) or shape.primary_key
    if not keys:
        raise FatalError(
            f"the table {shape.name.sql} has no primary key.",
            code="postgres_keys",
            hint="Add one, or name the columns of a unique constraint in `keys`.",
        )
    missing = [name for name in keys if name not in shape.columns]
    if missing:
        raise FatalError(
            f"the table {shape.name.sql} has no column {missing[0]}, which `keys` names.",
            code="postgres_keys",
            hint=f"Its columns are {', '.join(shape.columns)}.",
        )
    if frozenset(keys) not in shape.unique:
        listed = ", ".join(quoted(name) for name in keys)
        raise FatalError(
            f"no unique constraint of {shape.name.sql} is on ({listed}) alone.",
            code="postgres_keys",
            hint=f"CREATE UNIQUE INDEX ON {shape.name.sql} ({listed});",
        )
    return keys
