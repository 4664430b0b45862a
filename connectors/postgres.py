"""`sink.postgres`: rows written to a table; modelled and validated, not built yet."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, model_validator
from typing_extensions import Self

from connectors.addresses import PostgresUrl
from connectors.contracts import ConnectorType
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
    when a DELETE change arrives."""
    keys: tuple[Annotated[str, MinLen(1)], ...] = ()
    """Columns of the unique constraint that upsert and merge go by; default: the primary key."""
    columns: Annotated[dict[str, Jq], MinLen(1)] | None = None
    """Column → jq over the outgoing event; default: the fields of its data, by name."""
    unknown_fields: Literal["fail", "ignore"] = "fail"
    """What to do with a field of the data that the table has no column for."""
    position_table: Annotated[str, AfterValidator(_check_table)] = "penstock_positions"
    """Table, made when missing, that keeps our position in the same transaction as the rows:
    a redelivery then writes nothing twice."""
    batch_size: Annotated[int, Ge(1), Le(10000)] = 1000
    """Rows in one statement."""
    statement_timeout: Annotated[Duration, Ge(1)] = 30.0
    """How long a statement may take."""

    @model_validator(mode="after")
    def _keys_are_columns(self) -> Self:
        if self.mode == "insert" and self.keys:
            raise ValueError("no keys with mode insert: it replaces no row")
        if self.columns is not None:
            unknown = [name for name in self.keys if name not in self.columns]
            if unknown:
                raise ValueError(f"keys that are among columns; {unknown[0]} is not")
        return self


SINK_POSTGRES = ConnectorType(
    "sink.postgres", PostgresSink, "Write rows to a PostgreSQL table.", roles=frozenset({"sink"})
)
