"""Snapshots that somebody has asked running sources for, and what became of them.

    waiting ── the source begins ── running ──┬── done
       │  ▲                          │  ▲     └── failed
       ▼  │                          ▼  │
      paused ◄───────────────────────┘  │          any of these but the last two: cancelled
          └─────────────────────────────┘

How far one is, the source's position says; what is here is for people, and for the source to begin.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from flows.state.database import Database, transaction
from flows.state.tables import snapshots

Status = Literal["waiting", "running", "paused", "done", "failed", "cancelled"]

OPEN: tuple[Status, ...] = ("waiting", "running", "paused")
"""Of one that is not over."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One that was asked for. Times are seconds since the epoch."""

    id: int
    flow: str
    source: str
    tables: tuple[str, ...]
    """Empty: all of the source's."""
    status: Status
    created_at: float
    created_by: str
    table: str
    """The one that is being read."""
    rows: int
    """Handed over so far."""
    error_code: str
    error_message: str
    updated_at: float


_FIELDS = tuple(field.name for field in fields(Snapshot))
_OF_ALL = select(*(snapshots.c[name] for name in _FIELDS))


def _snapshot(row: Any) -> Snapshot:
    values = dict(zip(_FIELDS, row, strict=True))
    return Snapshot(**{**values, "tables": tuple(json.loads(values["tables"]))})


class Snapshots:
    """The snapshots of a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, flow: str, source: str, tables: Sequence[str], by: str) -> int:
        """Ask for one; return its number."""
        now = time.time()
        values = {
            "flow": flow,
            "source": source,
            "tables": json.dumps(list(tables)),
            "status": "waiting",
            "created_at": now,
            "created_by": by,
            "table": "",
            "rows": 0,
            "error_code": "",
            "error_message": "",
            "updated_at": now,
        }
        statement = insert(snapshots).values(values).returning(snapshots.c.id)

        def work(connection: Connection) -> int:
            with transaction(connection):
                return int(connection.execute(statement).scalar_one())

        return self._database.run(work)

    def open(self, flow: str, source: str) -> list[Snapshot]:
        """Return those that are not over, oldest first."""
        query = _OF_ALL.where(
            snapshots.c.flow == flow,
            snapshots.c.source == source,
            snapshots.c.status.in_(OPEN),
        ).order_by(snapshots.c.id)
        return self._rows(query)

    def get(self, number: int) -> Snapshot | None:
        """Return the one of this number."""
        found = self._rows(_OF_ALL.where(snapshots.c.id == number))
        return found[0] if found else None

    def newest(self, flow: str | None, source: str | None, limit: int) -> list[Snapshot]:
        """Return those of a flow, or of all, the newest first."""
        query = _OF_ALL.order_by(snapshots.c.id.desc()).limit(limit)
        if flow is not None:
            query = query.where(snapshots.c.flow == flow)
        if source is not None:
            query = query.where(snapshots.c.source == source)
        return self._rows(query)

    def change(self, number: int, before: Sequence[Status], to: Status, **more: Any) -> bool:
        """Change its status if it is one of `before`, and what else is given; return whether it was."""
        statement = (
            update(snapshots)
            .where(snapshots.c.id == number, snapshots.c.status.in_(before))
            .values(status=to, updated_at=time.time(), **more)
        )

        def work(connection: Connection) -> bool:
            with transaction(connection):
                return bool(connection.execute(statement).rowcount)

        return self._database.run(work)

    def _rows(self, query: Any) -> list[Snapshot]:
        rows = self._database.run(lambda connection: connection.execute(query).all())
        return [_snapshot(row) for row in rows]
