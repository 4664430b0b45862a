"""What `validate --connect` looks at for an outbox: its table, and what may be done with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg

from connectors.contracts import Check
from transforms.steps.db_calls import Asking
from transforms.steps.db_postgres import PostgresDatabase
from transforms.steps.db_statements import parse_statement
from transforms.steps.outbox_table import OutboxTable

_NEEDED = ("SELECT", "INSERT", "DELETE")


def check_outbox(url: str, table: str, flow: str) -> Iterator[Check]:
    """Look at the table, changing nothing. Raises PenstockError where there is no login."""
    outbox = OutboxTable(table, flow)
    with (
        closing(PostgresDatabase(url, _ASKING)) as database,
        closing(database.open()) as connection,
    ):
        columns = outbox.columns(connection)
        if not columns:
            yield _missing(connection, outbox)
        elif not outbox.is_one(columns):
            yield Check(
                f"table {table}",
                ok=False,
                found="it is there, and no outbox",
                hint="Name another one: outbox: {step: …, table: …}; it is made when it is missing.",
            )
        else:
            yield _rights(connection, outbox)


def _missing(connection: psycopg.Connection[Any], outbox: OutboxTable) -> Check:
    schema = outbox.name.rpartition(".")[0]
    row = connection.execute(
        "SELECT has_schema_privilege(coalesce(nullif(%s, ''), current_schema()), 'CREATE')"
        " WHERE %s = '' OR to_regnamespace(%s) IS NOT NULL",
        [schema, schema, schema],
    ).fetchone()
    if row is not None and row[0]:
        found = "missing; it is made at the first run"
        return Check(f"table {outbox.name}", ok=True, found=found)
    return Check(
        f"table {outbox.name}",
        ok=False,
        found=f"missing, and {connection.info.user} may not make it",
        hint=f"Let somebody run: {outbox.definition()}",
    )


def _rights(connection: psycopg.Connection[Any], outbox: OutboxTable) -> Check:
    lacking = []
    for right in _NEEDED:
        row = connection.execute(
            "SELECT has_table_privilege(to_regclass(%s), %s)", [outbox.quoted, right]
        ).fetchone()
        if row is None or not row[0]:
            lacking.append(right)
    user = connection.info.user
    return Check(
        f"table {outbox.name}",
        ok=not lacking,
        found=f"{user} has no right to {', '.join(lacking)}" if lacking else f"{user} may use it",
        hint=f"GRANT {', '.join(lacking)} ON {outbox.name} TO {user};" if lacking else "",
    )


_ASKING = Asking(
    statement=parse_statement("SELECT 1"),
    timeout=10.0,
    connections=1,
    max_rows=1,
    only_first=False,
    changes=False,
    returning=False,
    numeric_as_number=False,
)
