"""`Table`: a table as its rows arrive, from a Relation message or from a snapshot's query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.postgres_cdc.catalog import TableFacts
from connectors.postgres_cdc.condition import typed
from connectors.postgres_cdc.pgoutput import ABSENT, Relation, RowChange, Value
from connectors.postgres_cdc.progress import KEY_KINDS, KeyKind
from connectors.postgres_cdc.row_source import RowColumn
from connectors.postgres_cdc.rows import RowCodec
from connectors.postgres_cdc.types import TypeCatalog

CTID = "ctid"
"""A hidden last column of a snapshot's rows where the table has no key: it tells rows apart."""


@dataclass(slots=True)
class Table:
    """One shape of a table's rows: how they are encoded, named and told apart."""

    codec: RowCodec
    identity: str
    identity_columns: frozenset[int]
    """Columns of the replica identity; an update that keeps them comes without the old row."""
    kinds: tuple[KeyKind, ...] | None
    """How keys compare; None where there is no key that can be compared here."""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"{self.codec.schema}.{self.codec.table}"

    def old_of(self, change: RowChange) -> list[Value] | None:
        """Return the row before the change, ABSENT where the server did not say; None: nothing."""
        old = change.old
        if old is None:
            return None
        if not change.old_is_key:
            return old
        # An old key comes as a whole row in which other columns are NULL: they aren't known.
        # Under FULL that happens where a partition's identity is another than its table's.
        keep = frozenset(self.codec.key) if self.identity == "f" else self.identity_columns
        return [value if index in keep else ABSENT for index, value in enumerate(old)]

    def new_of(self, change: RowChange) -> list[Value] | None:
        """Return the row after the change, unchanged TOAST values taken from the old row."""
        new = change.new
        if new is None or ABSENT not in new:
            return new
        old = self.old_of(change)
        if old is None:
            return new
        return [old[index] if value is ABSENT else value for index, value in enumerate(new)]

    def key_values(self, values: Sequence[Value]) -> list[bytes]:
        """Return the key's values; b"" stands for one that isn't there (it never is in a key)."""
        found = (values[index] for index in self.codec.key)
        return [value if isinstance(value, bytes) else b"" for value in found]

    def text_key(self, line: bytes) -> tuple[str, ...]:
        """Return the key of a line of COPY, as positions keep it."""
        return tuple(value.decode() for value in self.key_values(self.codec.split_line(line)))

    def typed_row(self, values: Sequence[Value]) -> dict[str, Any]:
        """Return column → value as conditions compare it."""
        row: dict[str, Any] = {}
        for column, value in zip(self.codec.columns, values, strict=True):
            if isinstance(value, bytes):
                row[column.name] = typed(column.type.kind, column.type.name, value)
            else:
                row[column.name] = value
        return row


def make_table(
    *,
    schema: str,
    table: str,
    identity: str,
    columns: Iterable[tuple[str, int, bool]],
    key: Iterable[str],
    shown: Iterable[str] | None,
    types: TypeCatalog,
) -> Table:
    """Return a table whose columns are (name, type oid, part of the replica identity).

    `shown`: the columns that become data (None: all); others are read for the key alone.
    """
    listed = list(columns)
    keys = set(key)
    seen = None if shown is None else set(shown)
    made = [
        RowColumn(name, types.resolve(oid), name in keys, seen is None or name in seen)
        for name, oid, _ in listed
    ]
    codec = RowCodec(schema, table, made)
    kinds = [KEY_KINDS.get(made[index].type.oid) for index in codec.key]
    known = tuple(kind for kind in kinds if kind is not None)
    return Table(
        codec=codec,
        identity=identity,
        identity_columns=frozenset(index for index, one in enumerate(listed) if one[2]),
        kinds=known if known and len(known) == len(kinds) else None,
    )


def stream_table(
    relation: Relation,
    *,
    primary_key: Sequence[str],
    shown: Iterable[str] | None,
    types: TypeCatalog,
) -> Table:
    """Return the table that a Relation message describes.

    Under FULL (all columns are the identity) and NOTHING (none is) the key is the primary key.
    """
    names = {column.name for column in relation.columns}
    if relation.identity in ("f", "n"):
        key = list(primary_key) if names.issuperset(primary_key) else []
    else:
        key = [column.name for column in relation.columns if column.identity]
    return make_table(
        schema=relation.schema,
        table=relation.table,
        identity=relation.identity,
        columns=[(column.name, column.type_oid, column.identity) for column in relation.columns],
        key=key,
        shown=shown,
        types=types,
    )


def snapshot_table(
    facts: TableFacts,
    *,
    published: Sequence[str] | None,
    shown: Iterable[str] | None,
    types: TypeCatalog,
) -> Table:
    """Return the table as a snapshot reads it: the published columns in the table's order."""
    read = None if published is None else set(published)
    columns = [
        (name, oid, name in facts.identity_columns)
        for name, oid in facts.columns
        if read is None or name in read
    ]
    names = {name for name, _, _ in columns}
    key = facts.key if names.issuperset(facts.key) else ()
    wanted = names if shown is None else set(shown)
    if not key:
        columns.append((CTID, 25, False))
    return make_table(
        schema=facts.schema,
        table=facts.table,
        identity=facts.identity,
        columns=columns,
        key=key,
        shown=wanted,
        types=types,
    )


def message_table(prefix: str) -> Table:
    """Return what stands in for the table of logical messages with this prefix."""
    made = Table(RowCodec("", prefix, []), "n", frozenset(), None)
    made.codec.subject = made.name = prefix
    return made


Keys = Mapping[int, Sequence[str]]
"""Relation oid → its primary key's columns."""
