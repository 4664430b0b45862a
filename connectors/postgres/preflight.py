"""What writing to the table needs, looked at without changing anything."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from connectors.contracts import Check
from connectors.errors import FatalError
from connectors.postgres.positions import CREATE
from connectors.postgres.session import open_session
from connectors.postgres.settings import PostgresSink
from connectors.postgres.table import (
    TableName,
    TableShape,
    keys_of,
    oid_of,
    parse_table,
    read_shape,
)
from connectors.postgres_cdc.connection import Connection, connect_error, one_line


def checks(settings: PostgresSink) -> Iterator[Check]:
    """Yield what was found."""
    try:
        connection = open_session(settings.connection, settings.statement_timeout)
    except psycopg.Error as error:
        failed = connect_error(error)
        yield Check(
            "connection",
            ok=False,
            found=failed.message,
            hint=failed.hint,
            unreachable=failed.unreachable,
        )
        return
    with connection:
        yield Check(
            "connection", ok=True, found=f"PostgreSQL {connection.info.server_version // 10000}"
        )
        try:
            yield from _table(connection, settings)
            if settings.position_table is not None:
                yield _position_table(connection, parse_table(settings.position_table))
        except psycopg.Error as error:
            yield Check(
                "table",
                ok=False,
                found=one_line(error),
                hint="See the server's log.",
                unreachable=False,
            )


def _table(connection: Connection, settings: PostgresSink) -> Iterator[Check]:
    name = parse_table(settings.table)
    try:
        shape = read_shape(connection, name)
    except FatalError as error:
        yield Check("table", ok=False, found=error.message, hint=error.hint)
        return
    yield Check("table", ok=True, found=f"{name.sql}, {len(shape.columns)} columns")
    keys: tuple[str, ...] = ()
    if settings.mode != "insert":
        try:
            keys = keys_of(shape, settings.keys)
            yield Check("keys", ok=True, found=", ".join(keys))
        except FatalError as error:
            yield Check("keys", ok=False, found=error.message, hint=error.hint)
    yield from _columns(shape, settings)
    rights = {"insert": ["INSERT"], "upsert": ["SELECT", "INSERT", "UPDATE"]}.get(
        settings.mode, ["SELECT", "INSERT", "UPDATE", "DELETE"]
    )
    yield _rights(connection, name, rights)


def _columns(shape: TableShape, settings: PostgresSink) -> Iterator[Check]:
    named = [*(settings.columns or ()), *filter(None, [settings.keep_newer])]
    unknown = [name for name in named if name not in shape.columns]
    if unknown:
        yield Check(
            "columns",
            ok=False,
            found=f"{shape.name.sql} has no column {', '.join(unknown)}",
            hint=f"Its columns are {', '.join(shape.columns)}.",
        )
    if settings.columns is None:
        return
    left_out = [
        one.name
        for one in shape.columns.values()
        if one.required and not one.generated and one.name not in settings.columns
    ]
    if left_out:
        yield Check(
            "columns",
            ok=False,
            found=f"{', '.join(left_out)} is NOT NULL without a default, and not in `columns`",
            hint="Map it, or give it a default.",
        )


def _rights(connection: Connection, name: TableName, rights: list[str]) -> Check:
    missing = []
    for right in rights:
        row = connection.execute(
            "SELECT has_table_privilege(%s, %s) OR has_any_column_privilege(%s, nullif(%s, 'DELETE'))",
            [name.sql, right, name.sql, right],
        ).fetchone()
        if row is None or not row[0]:
            missing.append(right)
    if not missing:
        return Check(f"rights to {name.sql}", ok=True, found=", ".join(rights))
    listed = ", ".join(missing)
    return Check(
        f"rights to {name.sql}",
        ok=False,
        found=f"{connection.info.user} lacks {listed}",
        hint=f'GRANT {listed} ON {name.sql} TO "{connection.info.user}";',
    )


def _position_table(connection: Connection, name: TableName) -> Check:
    if oid_of(connection, name) is not None:
        return _rights(connection, name, ["SELECT", "INSERT", "UPDATE", "DELETE"])
    row = connection.execute(
        "SELECT has_schema_privilege(coalesce(%s, current_schema()), 'CREATE')", [name.schema]
    ).fetchone()
    if row is not None and row[0]:
        return Check("position table", ok=True, found=f"{name.sql}, will be made")
    return Check(
        "position table",
        ok=False,
        found=f"{name.sql} does not exist, and {connection.info.user} may not make it",
        hint=f"{CREATE.format(name.sql)}; GRANT SELECT, INSERT, UPDATE, DELETE ON {name.sql} TO"
        f' "{connection.info.user}"; or set `position_table: null`.',
    )
