"""Read the rows there are: each table in key order, through COPY, in one transaction's snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from connectors.postgres_cdc.connection import Connection
from connectors.postgres_cdc.progress import order_terms
from connectors.postgres_cdc.tables import CTID, Table

CHUNK_ROWS = 1000
CHUNK = 256 << 10
"""Bytes of a chunk, about; a single row may be larger."""


@dataclass(frozen=True, slots=True)
class SnapshotTable:
    """A table to read, and what of it."""

    table: Table
    partitioned: bool
    where: str | None

    @property
    def name(self) -> str:
        """Return `schema.table`."""
        return self.table.name


def begin(connection: Connection, snapshot: str | None) -> None:
    """Open the transaction that reads: in the exported snapshot, or in one of its own."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    if snapshot is not None:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))


def copy_statement(
    source: SnapshotTable, after: Sequence[str] | None, *, limit: int | None = None
) -> sql.Composed:
    """Return the COPY of a table's rows in key order, after the key `after`, at most `limit`.

    A table without a key that can be compared here is read as it lies.
    """
    codec = source.table.codec
    selected = [
        sql.SQL("tableoid::text || ctid::text")
        if column.name == CTID and not codec.key and index == len(codec.columns) - 1
        else sql.Identifier(column.name)
        for index, column in enumerate(codec.columns)
    ]
    # SQL by design: the user's `where`, or the publication's.
    conditions: list[sql.Composable] = []
    if source.where is not None:
        conditions.append(sql.SQL(f"({source.where})"))
    order: sql.Composable = sql.SQL("")
    if source.table.kinds is not None:
        names = [sql.Identifier(codec.columns[index].name).as_string(None) for index in codec.key]
        terms = sql.SQL(", ").join(sql.SQL(term) for term in order_terms(names, source.table.kinds))
        if after is not None:
            values = sql.SQL(", ").join(sql.Literal(value) for value in after)
            conditions.append(sql.SQL("ROW({}) > ROW({})").format(terms, values))
        order = sql.SQL(" ORDER BY {}").format(terms)
    where: sql.Composable = sql.SQL("")
    if conditions:
        where = sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions))
    most = sql.SQL("") if limit is None else sql.SQL(" LIMIT {}").format(sql.Literal(limit))
    return sql.SQL("COPY (SELECT {} FROM {}{}{}{}{}) TO STDOUT").format(
        sql.SQL(", ").join(selected),
        # Children of a table by inheritance are tables of their own; partitions are not.
        sql.SQL("" if source.partitioned else "ONLY "),
        sql.Identifier(codec.schema, codec.table),
        where,
        order,
        most,
    )


def read_rows(
    connection: Connection,
    source: SnapshotTable,
    after: Sequence[str] | None,
    stopped: Callable[[], bool],
) -> Iterator[tuple[list[bytes], int]]:
    """Yield the rows as chunks of COPY lines, with their size. Raises psycopg.Error."""
    with connection.cursor() as cursor, cursor.copy(copy_statement(source, after)) as copy:
        lines: list[bytes] = []
        size = 0
        for data in copy:
            line = bytes(data)
            lines.append(line)
            size += len(line)
            if size >= CHUNK or len(lines) >= CHUNK_ROWS:
                yield lines, size
                if stopped():
                    return
                lines, size = [], 0
        if lines:
            yield lines, size
