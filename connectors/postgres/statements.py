"""The SQL that writes rows: one parameter, a JSON array of the rows' objects. Pure.

PostgreSQL reads the array itself, each value by its column's type: so a 64-bit integer or a numeric
keeps its digits, JSON stays JSON, and an event's data goes in as it is: nothing is converted here.
"""

# ruff: noqa: S608 - what is put into a statement is a quoted name or a type of the catalog

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from connectors.postgres.table import Column, TableShape, quoted

Kind = Literal["insert", "insert_ignore", "upsert", "delete"]

_TURN = '"penstock turn"'
"""Name of the column that numbers the rows of a statement; it has no place in a user's table."""

_DATA = "\0"
"""Stands for the parameter: a name may hold a percent sign."""


@dataclass(frozen=True, slots=True)
class Writing:
    """What rows of the same columns have done to them."""

    kind: Kind
    columns: tuple[str, ...]


def statement(writing: Writing, shape: TableShape, keys: tuple[str, ...], newer: str | None) -> str:
    """Return the statement for any number of rows that have these columns, as psycopg takes it."""
    text = _statement(writing, shape, keys, newer)
    return text.replace("%", "%%").replace(_DATA, "%s")


def _statement(
    writing: Writing, shape: TableShape, keys: tuple[str, ...], newer: str | None
) -> str:
    columns = [shape.columns[name] for name in writing.columns]
    match writing.kind:
        case "insert" | "insert_ignore":
            ending = "" if writing.kind == "insert" else " ON CONFLICT DO NOTHING"
            return (
                f"{_into(shape, columns)} SELECT {_names(columns)} FROM {_rows(columns)} r{ending}"
            )
        case "upsert":
            source = _last_of_key(columns, keys, newer)
            return f"{_into(shape, columns)} {source} {_on_conflict(columns, keys, newer)}"
        case "delete":
            matches = " AND ".join(f"t.{quoted(name)} = r.{quoted(name)}" for name in keys)
            guard = f" AND {_not_newer('r', newer)}" if newer in writing.columns else ""
            return (
                f"DELETE FROM {shape.name.sql} AS t USING {_rows(columns)} r WHERE {matches}{guard}"
            )


def _into(shape: TableShape, columns: list[Column]) -> str:
    identity = " OVERRIDING SYSTEM VALUE" if any(one.identity for one in columns) else ""
    return f"INSERT INTO {shape.name.sql} AS t ({_names(columns)}){identity}"


def _names(columns: list[Column]) -> str:
    return ", ".join(quoted(one.name) for one in columns)


def _rows(columns: list[Column], *, numbered: bool = False) -> str:
    typed = ", ".join(f"{quoted(one.name)} {one.read_as}" for one in columns)
    values = ", ".join(
        f"{one.converted(f'j.{quoted(one.name)}')} AS {quoted(one.name)}" for one in columns
    )
    read = f"json_to_recordset({_DATA}::json) AS ({typed})"
    if not numbered:
        read = f"json_to_recordset({_DATA}::json) AS j({typed})"
        return f"(SELECT {values} FROM {read})"
    names = f"{_names(columns)}, {_TURN}"
    return f"(SELECT {values}, j.{_TURN} FROM ROWS FROM ({read}) WITH ORDINALITY AS j({names}))"


def _last_of_key(columns: list[Column], keys: tuple[str, ...], newer: str | None) -> str:
    """Return the rows, of those with one key the last: PostgreSQL refuses to change a row twice."""
    listed = ", ".join(f"r.{quoted(name)}" for name in keys)
    by_age = f"r.{quoted(newer)} DESC NULLS LAST, " if newer in {c.name for c in columns} else ""
    return (
        f"SELECT DISTINCT ON ({listed}) {', '.join(f'r.{quoted(c.name)}' for c in columns)}"
        f" FROM {_rows(columns, numbered=True)} r ORDER BY {listed}, {by_age}r.{_TURN} DESC"
    )


def _on_conflict(columns: list[Column], keys: tuple[str, ...], newer: str | None) -> str:
    target = f"ON CONFLICT ({', '.join(quoted(name) for name in keys)})"
    changed = [quoted(one.name) for one in columns if one.name not in keys]
    if not changed:
        return f"{target} DO NOTHING"
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in changed)
    guard = ""
    if newer is not None and newer in {one.name for one in columns}:
        guard = f" WHERE {_not_newer('EXCLUDED', newer)}"
    return f"{target} DO UPDATE SET {sets}{guard}"


def _not_newer(incoming: str, newer: str | None) -> str:
    name = quoted(newer or "")
    return f"(t.{name} IS NULL OR t.{name} <= {incoming}.{name})"
