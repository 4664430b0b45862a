"""Sagas in the state store: their progress, as workers write it, and what operators ask of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from flows.state.database import Database, transaction
from flows.state.jsontext import json_text
from flows.state.leases import under
from flows.state.records import Lease
from flows.state.rows import Row, storable
from flows.state.sagas import UNFINISHED, Saga, steps_of, steps_text
from flows.state.tables import dead_letters, sagas

_SHOWN = tuple(column for column in sagas.c if column.name not in {"flow", "body"})
_NAMES = tuple(column.name for column in _SHOWN)
_UPSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

AMBIGUOUS = 20
"""Sagas shown for a prefix that fits several."""


class SagaStatements:
    """The statements that write sagas, in one dialect."""

    def __init__(self, dialect: str) -> None:
        self.save = _saving(dialect, but=("body",))
        """Progress; what `settle` has kept of the execution stays."""
        self.settle = _saving(dialect)
        self.forget = delete(sagas).where(
            sagas.c.flow == bindparam("of_flow"),
            sagas.c.pipeline == bindparam("of_pipeline"),
            sagas.c.id == bindparam("of_id"),
        )
        self.tell_letter = (
            update(dead_letters)
            .where(
                dead_letters.c.flow == bindparam("of_flow"), dead_letters.c.id == bindparam("of_id")
            )
            .values(compensation=bindparam("told"))
        )
        """A saga that is tried again later has its dead letter already."""


def _saving(dialect: str, but: Iterable[str] = ()) -> Any:
    new = _UPSERT[dialect](sagas)
    names = [c.name for c in sagas.columns if not c.primary_key and c.name not in set(but)]
    return new.on_conflict_do_update(
        index_elements=[column.name for column in sagas.primary_key],
        set_={name: new.excluded[name] for name in names},
    )


def saga_row(flow: str, saga: Saga) -> Row:
    """Return the row of a saga."""
    row = {
        name: getattr(saga, name)
        for name in ("id", "pipeline", "source", "partition", "lane", "event_id", "event_type")
    }
    row = {name: storable(text) if isinstance(text, str) else text for name, text in row.items()}
    return row | {
        "flow": flow,
        "status": saga.status,
        "step": saga.step,
        "attempts": saga.attempts,
        "error": None if saga.error is None else json_text(saga.error).decode(),
        "started_at": saga.started_at,
        "deadline": saga.deadline,
        "failed_at": saga.failed_at,
        "updated_at": saga.updated_at,
        "note": saga.note,
        "letter": saga.letter,
        "steps": steps_text(saga),
        "body": saga.body,
    }


def compensation_row(flow: str, saga: Saga) -> Row:
    """Return what the dead letter of a saga is told of its compensations."""
    told = json_text(saga.record()).decode()
    return {"of_flow": flow, "of_id": saga.letter or saga.id, "told": told}


def _saga_of(values: Sequence[Any]) -> Saga:
    row = dict(zip(_NAMES, values, strict=False))
    row["steps"] = steps_of(row["steps"])
    row["error"] = None if row["error"] is None else json.loads(row["error"])
    if len(values) > len(_NAMES):
        body = values[len(_NAMES)]
        row["body"] = None if body is None else bytes(body)
    return Saga(**row)


class SagaStore:
    """Sagas of one state store, on its connection; errors as it has them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.statements = SagaStatements(database.dialect)

    # --- what a worker does -------------------------------------------------------------------

    def save(self, lease: Lease, changed: Sequence[Saga]) -> None:
        """Store progress in one transaction. Raises FatalError `lease_lost`, and stores nothing."""
        rows = [saga_row(lease.flow, saga) for saga in changed]
        under(
            self._database,
            lease,
            lambda connection: _execute(connection, self.statements.save, rows),
        )

    def unfinished(self, flow: str, source: str) -> dict[str, set[str]]:
        """Return pipeline → ids of the sagas whose events come again, or wait."""
        query = select(sagas.c.pipeline, sagas.c.id).where(
            sagas.c.flow == flow, sagas.c.source == source, sagas.c.status.in_(UNFINISHED)
        )
        found: dict[str, set[str]] = {}
        for pipeline, saga in self._all(query):
            found.setdefault(pipeline, set()).add(saga)
        return found

    def load(self, flow: str, pipeline: str, ids: Sequence[str]) -> list[Saga]:
        """Return the sagas with these ids, without bodies; those that are not there are left out."""
        query = select(*_SHOWN).where(
            sagas.c.flow == flow, sagas.c.pipeline == pipeline, sagas.c.id.in_(ids)
        )
        return list(map(_saga_of, self._all(query)))

    def requested(self, flow: str, source: str, limit: int) -> list[Saga]:
        """Return sagas that an operator wants tried again, with their bodies."""
        query = (
            select(*_SHOWN, sagas.c.body)
            .where(sagas.c.flow == flow, sagas.c.status == "retrying", sagas.c.source == source)
            .order_by(sagas.c.updated_at)
            .limit(limit)
        )
        return list(map(_saga_of, self._all(query)))

    # --- what an operator does ----------------------------------------------------------------

    def page(
        self, flow: str | None, *, pipeline: str | None, statuses: Sequence[str], limit: int
    ) -> list[tuple[str, Saga]]:
        """Return (flow, saga), those changed last first."""
        query = select(sagas.c.flow, *_SHOWN).order_by(sagas.c.updated_at.desc(), sagas.c.id.desc())
        if flow is not None:
            query = query.where(sagas.c.flow == flow)
        if pipeline is not None:
            query = query.where(sagas.c.pipeline == pipeline)
        if statuses:
            query = query.where(sagas.c.status.in_(statuses))
        return [(row[0], _saga_of(row[1:])) for row in self._all(query.limit(limit))]

    def find(self, flow: str | None, prefix: str) -> list[tuple[str, Saga]]:
        """Return (flow, saga) of those whose id starts so: one, none, or some that it fits."""
        query = select(sagas.c.flow, *_SHOWN, sagas.c.body).where(
            sagas.c.id >= prefix, sagas.c.id < prefix + "~"
        )
        if flow is not None:
            query = query.where(sagas.c.flow == flow)
        return [(row[0], _saga_of(row[1:])) for row in self._all(query.limit(AMBIGUOUS))]

    def change(self, flow: str, saga: Saga, *, expected: Sequence[str]) -> bool:
        """Store what an operator has changed of a saga; False when its status is another by now."""
        row = saga_row(flow, saga)
        statement = (
            update(sagas)
            .where(
                sagas.c.flow == flow,
                sagas.c.pipeline == saga.pipeline,
                sagas.c.id == saga.id,
                sagas.c.status.in_(expected),
            )
            .values({name: row[name] for name in ("status", "note", "steps", "updated_at")})
        )

        def execute(connection: Connection) -> bool:
            with transaction(connection):
                changed: int = connection.execute(statement).rowcount
            return changed == 1

        return self._database.run(execute)

    def _all(self, query: Any) -> list[Any]:
        return self._database.run(lambda connection: list(connection.execute(query)))


def _execute(connection: Connection, statement: Any, rows: list[Row]) -> None:
    if rows:
        connection.execute(statement, rows)
