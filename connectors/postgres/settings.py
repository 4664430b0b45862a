"""Configuration of `sink.postgres`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, model_validator
from typing_extensions import Self

from connectors.addresses import PostgresUrl
from connectors.settings import Duration, Jq, Settings

_IDENTIFIER = r"(\"([^\"\x00]|\"\")+\"|[A-Za-z_\u0080-\uffff][\w$]*)"
_TABLE = re.compile(rf"({_IDENTIFIER}\.)?{_IDENTIFIER}")


def _check_table(value: str) -> str:
    if not _TABLE.fullmatch(value):
        raise ValueError('a table such as public.orders; quote a name as in public."Order Lines"')
    return value


class PostgresSink(Settings):
    """Configuration of `sink.postgres`."""

    connection: PostgresUrl
    """Where PostgreSQL is, and as whom to connect."""
    table: Annotated[str, AfterValidator(_check_table)]
    """Table to write to; `schema.table`, unquoted names are folded to lower case."""
    mode: Literal["insert", "upsert", "merge"] = "upsert"
    """`insert` adds rows; `upsert` replaces the row of the same `keys`; `merge` also deletes it
    when a DELETE change arrives, which fails the event in mode `upsert`."""
    keys: tuple[Annotated[str, MinLen(1)], ...] = ()
    """Columns of the unique constraint that upsert and merge go by; default: the primary key."""
    on_conflict: Literal["fail", "ignore"] = "fail"
    """What mode `insert` does with a row that a unique constraint has already: fail the event, or
    leave the row that is there and count the event as delivered."""
    keep_newer: Annotated[str, MinLen(1)] | None = None
    """Column by which upsert and merge leave a row alone that is newer than the event, such as
    `updated_at`: an older event, as of a backfill, then changes nothing."""
    columns: Annotated[dict[str, Jq], MinLen(1)] | None = None
    """Column → jq over the outgoing event; default: the fields of its data, by name."""
    unknown_fields: Literal["fail", "ignore"] = "fail"
    """What to do with a field of the data that the table has no column for."""
    position_table: Annotated[str, AfterValidator(_check_table)] | None = "penstock_positions"
    """Table, made when missing, that keeps in the same transaction as the rows which events they
    are of: a redelivery then writes nothing twice. `null` does without, at least once."""
    batch_size: Annotated[int, Ge(1), Le(10000)] = 1000
    """Rows in one statement."""
    statement_timeout: Annotated[Duration, Ge(1)] = 30.0
    """How long a statement may take."""

    @model_validator(mode="after")
    def _keys_are_columns(self) -> Self:
        if self.mode == "insert" and self.keys:
            raise ValueError("no keys with mode insert: it replaces no row")
        if self.mode == "insert" and self.keep_newer is not None:
            raise ValueError("no keep_newer with mode insert: it replaces no row")
        if self.mode != "insert" and self.on_conflict != "fail":
            raise ValueError(f"no on_conflict with mode {self.mode}: it goes by keys")
        if self.columns is not None:
            unknown = [name for name in self.keys if name not in self.columns]
            if unknown:
                raise ValueError(f"keys that are among columns; {unknown[0]} is not")
            if self.keep_newer is not None and self.keep_newer not in self.columns:
                raise ValueError(f"a keep_newer that is among columns; {self.keep_newer} is not")
        return self
