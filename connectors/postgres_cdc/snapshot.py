"""Read the rows there are: each table in key order, through COPY, in one transaction's snapshot."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from psycopg import sql

from connectors.postgres_cdc.connection import Connection
from connectors.postgres_cdc.progress import order_terms
from connectors.postgres_cdc.tables import CTID, Table

Lines = tuple[list[bytes], int]
"""Lines of COPY, and their size in bytes."""

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


def _from(source: SnapshotTable) -> sql.Composed:
    # Children of a table by inheritance are tables of their own; partitions are not.
    only = sql.SQL("" if source.partitioned else "ONLY ")
    return only + sql.Identifier(source.table.codec.schema, source.table.codec.table)


def _key_names(source: SnapshotTable) -> list[sql.Identifier]:
    codec = source.table.codec
    return [sql.Identifier(codec.columns[index].name) for index in codec.key]


def _key_terms(source: SnapshotTable) -> sql.Composed:
    kinds = source.table.kinds
    if kinds is None:
        raise AssertionError("a key that can't be compared here")
    names = [name.as_string(None) for name in _key_names(source)]
    return sql.SQL(", ").join(sql.SQL(term) for term in order_terms(names, kinds))


def _compared(terms: sql.Composed, operator: str, key: Sequence[str]) -> sql.Composed:
    values = sql.SQL(", ").join(sql.Literal(value) for value in key)
    return sql.SQL("ROW({}) {} ROW({})").format(terms, sql.SQL(operator), values)


def copy_statement(
    source: SnapshotTable,
    after: Sequence[str] | None,
    *,
    upto: Sequence[str] | None = None,
    limit: int | None = None,
) -> sql.Composed:
    """Return the COPY of a table's rows in key order, after the key `after`, at most `limit`.

    With `upto` they end with that key. A table without a key that can be compared here is read as
    it lies.
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
        terms = _key_terms(source)
        if after is not None:
            conditions.append(_compared(terms, ">", after))
        if upto is not None:
            conditions.append(_compared(terms, "<=", upto))
        order = sql.SQL(" ORDER BY {}").format(terms)
    where: sql.Composable = sql.SQL("")
    if conditions:
        where = sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions))
    most = sql.SQL("") if limit is None else sql.SQL(" LIMIT {}").format(sql.Literal(limit))
    return sql.SQL("COPY (SELECT {} FROM {}{}{}{}) TO STDOUT").format(
        sql.SQL(", ").join(selected), _from(source), where, order, most
    )


def walk_statement(source: SnapshotTable, after: Sequence[str] | None, rows: int) -> sql.Composed:
    """Return the query for the key that is `rows` rows after the key `after`; none: fewer are left.

    `where` does not count here: the index alone is read.
    """
    names = sql.SQL(", ").join(_key_names(source))
    terms = _key_terms(source)
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in _key_names(source))
    where: sql.Composable = sql.SQL("")
    if after is not None:
        where = sql.SQL(" WHERE {}").format(_compared(terms, ">", after))
    return sql.SQL(
        "SELECT {} FROM (SELECT {} FROM {}{} ORDER BY {} OFFSET {} LIMIT 1) AS walked"
    ).format(texts, names, _from(source), where, terms, sql.Literal(rows - 1))


def read_rows(
    connection: Connection,
    source: SnapshotTable,
    after: Sequence[str] | None,
    stopped: Callable[[], bool],
    upto: Sequence[str] | None = None,
) -> Generator[Lines, None, None]:
    """Yield the rows as chunks of COPY lines, with their size. Raises psycopg.Error."""
    statement = copy_statement(source, after, upto=upto)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
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
