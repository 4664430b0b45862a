"""Make what the source needs on the server: the publication, then the slot.

The publication comes first: decoding sees the catalog as it was at each change, so changes that
are older than their publication would fail the slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from connectors.errors import FatalError
from connectors.postgres_cdc.catalog import Publication, ServerFacts, TableFacts
from connectors.postgres_cdc.connection import Connection, connect_error
from connectors.postgres_cdc.position import parse_lsn
from connectors.postgres_cdc.settings import PostgresCdcSettings, TableSettings

COLUMN_LISTS = 150000
"""First version whose publications have column lists and row filters."""

FAILOVER = 170000
"""First version whose slots standbys can keep a copy of."""

STANDBY = 160000
"""First version that decodes on a standby."""

OLDEST = 140000
"""First version supported: the oldest with pgoutput options and slot views used here."""


def _quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)


def table_clause(table: TableSettings, version: int) -> str:
    """Return the table as CREATE PUBLICATION takes it."""
    clause = _quoted(table.schema_name, table.table)
    if version >= COLUMN_LISTS:
        if table.columns:
            clause += f" ({', '.join(_quoted(column) for column in table.columns)})"
        if table.where:
            clause += f" WHERE ({table.where})"
    return clause


def create_publication_sql(settings: PostgresCdcSettings, version: int) -> str:
    """Return the statement that makes the publication these settings need."""
    tables = ", ".join(f"TABLE {table_clause(table, version)}" for table in settings.tables)
    publish = ", ".join(operation.lower() for operation in settings.filter.operations)
    return (
        f"CREATE PUBLICATION {_quoted(settings.publication_name)} FOR "
        f"{tables if version >= COLUMN_LISTS else tables.replace(', TABLE ', ', ')} "
        f"WITH (publish = '{publish}', publish_via_partition_root = true)"
    )


def publication_problems(
    settings: PostgresCdcSettings,
    facts: ServerFacts,
    publication: Publication,
    tables: Sequence[TableFacts],
) -> list[tuple[str, str]]:
    """Return what an existing publication lacks, each with the SQL that mends it.

    It may be shared with others, so it is never changed here.
    """
    name = _quoted(settings.publication_name)
    found = []
    missing = [op for op in settings.filter.operations if op not in publication.operations]
    if missing:
        publish = ", ".join(
            op.lower()
            for op in ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
            if op in missing or op in publication.operations
        )
        found.append(
            (
                f"it doesn't publish {', '.join(missing)}",
                f"ALTER PUBLICATION {name} SET (publish = '{publish}');",
            )
        )
    partitioned = [table.name for table in tables if table.kind == "p"]
    if partitioned and not publication.via_root:
        found.append(
            (
                f"it publishes {', '.join(partitioned)} as its partitions",
                f"ALTER PUBLICATION {name} SET (publish_via_partition_root = true);",
            )
        )
    for table in settings.tables:
        published = publication.tables.get(table.name)
        clause = table_clause(table, facts.version)
        if published is None:
            found.append(
                (
                    f"it doesn't have the table {table.name}",
                    f"ALTER PUBLICATION {name} ADD TABLE {clause};",
                )
            )
            continue
        anew = (
            f"ALTER PUBLICATION {name} DROP TABLE {_quoted(table.schema_name, table.table)}, "
        ).removesuffix(", ") + f"; ALTER PUBLICATION {name} ADD TABLE {clause};"
        lacking = sorted(set(table.columns or ()) - set(published.columns or table.columns or ()))
        if lacking:
            found.append((f"it doesn't have {table.name}'s {', '.join(lacking)}", anew))
        if table.where and not published.where:
            found.append((f"it doesn't filter {table.name} by `where`", anew))
    return found


def publication_error(
    settings: PostgresCdcSettings, problems: Sequence[tuple[str, str]]
) -> FatalError:
    """Return the error for a publication that exists and doesn't fit."""
    what = "; ".join(problem for problem, _ in problems)
    statements = " ".join(statement for _, statement in problems)
    return FatalError(
        f"the publication {settings.publication_name} doesn't fit this source: {what}.",
        code="publication_mismatch",
        hint=f"It may be shared, so it is not changed for you. Run: {statements}",
        publication=settings.publication_name,
    )


def create_publication(
    connection: Connection, settings: PostgresCdcSettings, facts: ServerFacts
) -> None:
    """Create the publication. Raises FatalError with the statement to run as somebody who may."""
    statement = create_publication_sql(settings, facts.version)
    try:
        connection.execute(statement.encode())
    except psycopg.errors.DuplicateObject:
        return
    except psycopg.Error as error:
        if error.sqlstate == "42501":
            raise FatalError(
                f"the publication {settings.publication_name} doesn't exist, and user "
                f"{facts.user} may not create it: it takes CREATE on the database and owning "
                "the tables.",
                code="publication_missing",
                hint=f"Run as their owner: {statement};",
                publication=settings.publication_name,
            ) from error
        raise connect_error(error) from error


@dataclass(frozen=True, slots=True)
class CreatedSlot:
    """A slot just made: where it starts, and the snapshot of the database just then."""

    lsn: int
    snapshot: str


def create_slot(
    connection: Connection, name: str, *, temporary: bool = False, failover: bool = False
) -> CreatedSlot:
    """Create a slot over a replication connection and export its snapshot.

    The snapshot lives until the connection runs its next command or ends. Blocks until all
    transactions that are running now have ended. Raises psycopg.Error.
    """
    row = connection.execute(
        sql.SQL("CREATE_REPLICATION_SLOT {}{} LOGICAL pgoutput {}").format(
            sql.Identifier(name),
            sql.SQL(" TEMPORARY" if temporary else ""),
            sql.SQL("(SNAPSHOT 'export', FAILOVER)" if failover else "EXPORT_SNAPSHOT"),
        )
    ).fetchone()
    assert row is not None  # noqa: S101 - the command answers with one row
    return CreatedSlot(parse_lsn(row[1]), row[2])


def make_failover_slot(connection: Connection, name: str) -> None:
    """Have standbys keep a copy of a slot, over a replication connection. Raises psycopg.Error."""
    connection.execute(
        sql.SQL("ALTER_REPLICATION_SLOT {} (FAILOVER true)").format(sql.Identifier(name))
    )


def drop_slot(connection: Connection, name: str) -> None:
    """Drop a slot that can't be read any more. Raises psycopg.Error."""
    connection.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (name,))
