"""`Run`: a row of changes of one kind in one table and transaction; what is constant in it is worked out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.batch import Operation
from connectors.postgres_cdc.condition import Condition
from connectors.postgres_cdc.incremental import Copy
from connectors.postgres_cdc.progress import Progress
from connectors.postgres_cdc.rows import KeyTexts
from connectors.postgres_cdc.tables import Table


@dataclass(slots=True)
class Run:
    """Events of one operation on one table in one transaction, or rows of one snapshot."""

    table: Table
    operation: Operation
    messages: Sequence[bytes]
    """What the server sent; for READ, lines of COPY."""
    ordinals: Sequence[int]
    """Numbers in the transaction; for READ, in the snapshot."""
    lsn: int
    """The transaction's commit LSN; for READ, the LSN the row was read at."""
    time: float
    carried: Mapping[str, Any] = field(default_factory=dict)
    """What positions in this run carry on, see StreamPosition.state."""
    progress: Progress | None = None
    """For READ in the initial snapshot: how far that was before the run."""
    copy: Copy | None = None
    """For READ in the stream: how far the snapshot was before the run."""
    xid: int = 0
    """The transaction's number; 0: none is known."""
    unchanged: dict[int, list[str]] | None = None
    """id(message) → columns whose unchanged TOAST values nobody sent; filled with `raw`."""
    keys: KeyTexts | None = None
    """What identifies the rows, as far as it was found; filled with `raw`."""
    counted: Counts | None = None
    """The events of the transaction before the run; None: they are not counted."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many events a transaction has, between its BEGIN and its END."""

    events: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)
    """`schema.table` → how many of them are about it; messages are about none."""

    def plus(self, run: Run, events: int) -> Counts:
        """Return it with that many events of a run more."""
        match run.operation:
            case "BEGIN" | "END":
                return self
            case "MESSAGE":
                return Counts(self.events + events, self.tables)
            case _:
                name = run.table.name
                of_table = self.tables.get(name, 0) + events
                return Counts(self.events + events, {**self.tables, name: of_table})

    def state(self) -> list[Any]:
        """Return it as a position carries it."""
        return [self.events, self.tables]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Counts:
        """Return what `state` says."""
        return cls(*state)


@dataclass(frozen=True, slots=True)
class Interest:
    """What the configuration asks for."""

    columns: Mapping[str, Sequence[str] | None]
    """`schema.table` → the columns that become data; None: all. Other tables are left out."""
    operations: frozenset[str]
    condition: Condition | None = None
    messages: Sequence[str] = ()
    """Prefixes of logical messages that become events; `*` stands for anything."""
