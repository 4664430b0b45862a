"""The keys of `type: source.postgres_cdc`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from connectors.postgres_cdc.condition import Condition, ConditionError
from connectors.settings import Duration, Expression, Secret, Settings, Template

ChangeOperation = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]

DEFAULT_TYPE = "{{ .schema }}.{{ .table }}.{{ .operation | lower }}"

OURS = "penstock."
"""What the prefixes of our own messages in the WAL begin with."""


_PLAIN_URL = re.compile(
    r"postgres(?:ql)?://(?:[A-Za-z0-9_.~-]+(?::[A-Za-z0-9_.~-]*)?@)?[A-Za-z0-9_.-]+(?::\d{1,5})?"
    r"(?:/[A-Za-z0-9_.~-]*)?"
)


def _check_connection(value: str) -> str:
    if _PLAIN_URL.fullmatch(value):
        return value
    import psycopg  # noqa: PLC0415 - takes 60 ms, for addresses that only libpq can judge
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    try:
        conninfo_to_dict(value)
    except psycopg.ProgrammingError:
        # What libpq says of it repeats a piece of the text, which may be one of the password.
        raise ValueError(
            "postgresql://user:password@host:5432/database, with %20 for a blank, %40 for @ and "
            "%2F for / in a password, or host=… user=… password='…' dbname=…"
        ) from None
    return value


class TableSettings(Settings):
    """One table to read."""

    schema_name: str = Field(default="public", alias="schema", min_length=1)
    """Schema of the table."""
    table: str = Field(min_length=1)
    """Name of the table, as the server stores it (case matters)."""
    columns: Annotated[list[str], Field(min_length=1)] | None = None
    """Columns to read; default: all. The replica identity's columns must be among them."""
    where: str | None = None
    """SQL condition on a row that the server applies, to the snapshot and the stream alike
    (PostgreSQL 15 or newer). Changes of rows it excludes are not sent."""

    @property
    def name(self) -> str:
        """Return `schema.table`."""
        return f"{self.schema_name}.{self.table}"

    @field_validator("columns")
    @classmethod
    def _once(cls, columns: list[str] | None) -> list[str] | None:
        if columns is not None and len(set(columns)) != len(columns):
            raise ValueError("each column once")
        return columns


class FilterSettings(Settings):
    """Which changes become events. Rows of the initial snapshot are subject to `condition` only."""

    operations: list[ChangeOperation] = Field(
        default=["INSERT", "UPDATE", "DELETE", "TRUNCATE"], min_length=1
    )
    """Operations that become events."""
    condition: Annotated[str, Expression("sql")] | None = None
    """SQL over OLD and NEW, such as `OLD.status IS DISTINCT FROM NEW.status`; changes for which it
    is true become events. OLD is NULL for an INSERT (and a snapshot row), NEW for a DELETE. OLD's
    columns need REPLICA IDENTITY FULL, except those of the replica identity itself."""

    @field_validator("condition")
    @classmethod
    def _readable(cls, condition: str | None) -> str | None:
        if condition is not None:
            try:
                Condition(condition)
            except ConditionError as error:
                raise ValueError(str(error)) from error
        return condition


class OutputSettings(Settings):
    """What an event looks like."""

    format: Literal["cloudevents"] = "cloudevents"
    """Events are CloudEvents."""
    include_before: bool = False
    """`data` is an object with `before`: the row before the change, or as much as the server sent
    of it (null for INSERT; the key under REPLICA IDENTITY DEFAULT)."""
    include_after: bool = False
    """`data` is an object with `after`: the row after the change (null for DELETE). Without
    `include_before` and `include_after`, `data` is the row itself: for DELETE the old one."""
    transaction: bool = False
    """Changes carry the attribute `transactionid`: the server's number of their transaction, the same
    for all that was committed together."""
    type_template: Template = DEFAULT_TYPE
    """The event's `type`, over `.schema`, `.table` and `.operation` (READ, INSERT, UPDATE, DELETE,
    TRUNCATE, ALTER)."""


class PostgresCdcSettings(Settings):
    """Changes of PostgreSQL tables, through a logical replication slot (pgoutput)."""

    connection: Annotated[Secret, AfterValidator(_check_connection)] = Field(min_length=1)
    """Connection string: `postgresql://user:password@host/database` or `host=… dbname=…`. The user
    needs REPLICATION, and SELECT on the tables for a snapshot."""
    slot_name: str = Field(pattern=r"^[a-z0-9_]{1,63}$")
    """The replication slot: created when there is none yet. One per flow; it keeps the server's WAL
    until the flow has settled it, so drop it when the flow is gone for good."""
    failover: bool = False
    """The slot is one that standbys keep a copy of (PostgreSQL 17 or newer), to go on from after a
    failover. An existing slot is changed to be one."""
    publication: str | None = Field(default=None, min_length=1)
    """The publication; default: the slot's name. Created when missing, never changed."""
    tables: list[TableSettings] = Field(min_length=1)
    """The tables to read."""
    snapshot: Literal["initial", "never", "only", "when_needed"] = "initial"
    """initial: first the rows there are, then their changes. never: only changes from now on. only:
    the rows there are, then the source ends; no slot is made. when_needed: as initial, and the rows
    are read again whenever the slot can't continue where the flow stopped."""
    snapshot_parallelism: int = Field(default=1, ge=1, le=32)
    """Connections that read a table's rows for `initial` and `only`, all in one snapshot of the server's; the
    rows come in key order all the same. More help where the server or the network is what limits,
    and take up to 5 MB of memory each. A table whose key no index has in its order is read over one."""
    filter: FilterSettings = FilterSettings()
    """Which changes become events."""
    output: OutputSettings = OutputSettings()
    """What an event looks like."""
    messages: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = (
        None
    )
    """Prefixes of logical messages that become events (`outbox`, `audit.*`): what
    `pg_logical_emit_message` writes, in order with the changes. `type` is the prefix and `.message`,
    `data` the content: JSON as it is, other text as a string, other bytes as {"base64": …}."""
    schema_changes: bool = False
    """Before the first change that has other columns than the changes before it, an event says so: its
    operation is `ALTER`, `type` ends in `.alter`, and `data` has `columns`, `added`, `dropped` and `changed`."""
    transaction_metadata: bool = False
    """An event before the first change of each transaction, and one after its last: the operations are
    `BEGIN` and `END`, the types `transaction.begin` and `transaction.end`. END's `data` has how many events came
    between, in all and of each table. Changes carry the attribute `transactionid`."""
    on_slot_missing: Literal["fail", "create"] = "fail"
    """When the flow has a position and the slot is gone. create: make a new slot and go on from
    now; the changes in between are lost, and a warning says so."""
    on_position_mismatch: Literal["fail", "trust_slot", "trust_position", "snapshot"] = "fail"
    """When the slot was moved past the flow's position, or belongs to another database.
    trust_slot: go on where the slot is. trust_position: the same, and skip what is not after the
    position. snapshot: read all rows again, then go on where the slot is."""
    heartbeat: Duration = 10.0
    """How often a message is written to the WAL (pg_logical_emit_message), so that the slot moves
    on when nothing happens in its tables; 0: never."""

    @property
    def publication_name(self) -> str:
        """Return the publication's name."""
        return self.publication or self.slot_name

    @field_validator("messages")
    @classmethod
    def _not_ours(cls, messages: list[str] | None) -> list[str] | None:
        if any(prefix.startswith(OURS) for prefix in messages or ()):
            raise ValueError(f"prefixes that don't begin with {OURS}: those are Penstock's own")
        return messages

    @model_validator(mode="after")
    def _tables_once(self) -> PostgresCdcSettings:
        names = [table.name for table in self.tables]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each table once; {', '.join(twice)} is there again")
        return self
