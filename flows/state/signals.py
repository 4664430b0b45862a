"""What operators ask of single executions, in the state store: asked for, found by a worker, recorded.

    waiting ──┬── applied    it has taken effect, written with what it has changed
              └── refused    it could not: the note says why

A signal is never lost to a crash: it waits here until the transaction that settles its effect. One to
an execution that is parked names its source and partition, so that whoever owns those takes it. One to
an execution that no row tells of is for what runs just now; it is given up when nobody has found it in
`RUNNING_FOR` seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Float,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from flows.state.database import Database, transaction
from flows.state.records import Parked, SignalOutcome
from flows.state.rows import storable
from flows.state.tables import parked, sagas, signals

Action = Literal["pause", "resume", "retry", "skip", "skip_execution", "cancel"]
"""`skip` the step that it has come to; `skip_execution`: all that is left."""

RUNNING_FOR = 600.0
"""Seconds that a signal looks for an execution that is not parked: longer than any batch should take."""

ROWS = 200
"""Deleted in one transaction."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What somebody asked of an execution, and what came of it. Times are seconds since the epoch."""

    number: int
    flow: str
    execution: str
    pipeline: str | None
    source: str | None
    """Of one that was parked when it was asked; None: it was not."""
    partition: str | None
    action: Action
    requested_by: str
    requested_at: float
    reason: str
    """What the operator said about it; "" where nothing."""
    status: Literal["waiting", "applied", "refused"]
    expires_at: float | None
    ended_at: float | None
    note: str
    """Where it took effect, or why it did not."""


_FIELDS = tuple(field.name for field in fields(Signal))
_of_signal = select(*(signals.c[name] for name in _FIELDS))
_is_of = and_(
    parked.c.flow == bindparam("of_flow"),
    parked.c.pipeline == bindparam("of_pipeline"),
    parked.c.id == bindparam("of_id"),
)
_for: ColumnElement[float] = bindparam("of_at", type_=Float()) - parked.c.paused_at
_end = (
    update(signals)
    .where(signals.c.number == bindparam("of_number"), signals.c.status == "waiting")
    .values(
        status=bindparam("to_status"),
        note=bindparam("to_note"),
        ended_at=bindparam("of_at"),
        pipeline=bindparam("of_pipeline"),
    )
)
_pause = update(parked).where(_is_of).values(paused_at=bindparam("of_at"))
# What is paused does not use up the time that the pipeline or the saga has.
_resume = (
    update(parked)
    .where(_is_of, parked.c.paused_at.is_not(None))
    .values(started_at=parked.c.started_at + _for, paused_at=None)
)
_paused_for = select(_for).where(_is_of).scalar_subquery()
_resume_saga = (
    update(sagas)
    .where(
        sagas.c.flow == bindparam("of_flow"),
        sagas.c.pipeline == bindparam("of_pipeline"),
        sagas.c.id == bindparam("of_id"),
    )
    .values(deadline=sagas.c.deadline + func.coalesce(_paused_for, 0.0))
)


class Signals:
    """The signals of a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(
        self, flow: str, waiting: Sequence[Parked], action: Action, *, by: str, reason: str = ""
    ) -> list[int]:
        """Record a signal to each of these parked executions; return their numbers."""
        return self._add(
            [
                _row(flow, each.place.id, action, by=by, reason=reason)
                | {
                    "pipeline": each.place.pipeline,
                    "source": each.place.source,
                    "partition": storable(each.place.partition),
                }
                for each in waiting
            ]
        )

    def ask_running(
        self, flow: str, execution: str, action: Action, *, by: str, reason: str = ""
    ) -> int:
        """Record a signal to an execution that is not parked; return its number."""
        row = _row(flow, execution, action, by=by, reason=reason)
        row["expires_at"] = row["requested_at"] + RUNNING_FOR
        (number,) = self._add([row])
        return number

    def _add(self, rows: list[dict[str, Any]]) -> list[int]:
        statement = insert(signals).returning(signals.c.number)

        def work(connection: Connection) -> list[int]:
            with transaction(connection):
                return [int(connection.execute(statement, row).scalar_one()) for row in rows]

        return self._database.run(work)

    def open(self, flow: str, source: str, after: int = 0) -> list[Signal]:
        """Return what waits for a source's workers, in the order in which it was asked.

        Only those with a number behind `after`.
        """
        query = _of_signal.where(
            signals.c.flow == flow,
            signals.c.status == "waiting",
            signals.c.number > after,
            or_(signals.c.source == source, signals.c.source.is_(None)),
        ).order_by(signals.c.number)
        return self._read(query)

    def give_up(self, flow: str, now: float) -> None:
        """Refuse those that have looked for a running execution for too long."""
        late = and_(
            signals.c.flow == flow,
            signals.c.status == "waiting",
            signals.c.expires_at < now,
        )
        statement = (
            update(signals)
            .where(late)
            .values(status="refused", ended_at=now, note="no worker has it: it has ended.")
        )
        self._database.run(lambda connection: _write(connection, statement))

    def get(self, numbers: Sequence[int]) -> list[Signal]:
        """Return signals by their numbers, those that there are, in order."""
        query = _of_signal.where(signals.c.number.in_(list(numbers))).order_by(signals.c.number)
        return self._read(query)

    def withdraw(self, numbers: Sequence[int]) -> None:
        """Forget signals that nobody has taken up."""
        self._database.run(
            lambda connection: _write(
                connection,
                delete(signals).where(
                    signals.c.number.in_(list(numbers)), signals.c.status == "waiting"
                ),
            )
        )

    def of(self, flow: str, execution: str) -> list[Signal]:
        """Return all signals to an execution, oldest first."""
        query = _of_signal.where(signals.c.flow == flow, signals.c.execution == execution)
        return self._read(query.order_by(signals.c.number))

    def _read(self, query: Any) -> list[Signal]:
        rows = self._database.run(lambda connection: connection.execute(query).all())
        return [Signal(*row) for row in rows]


def record_signals(connection: Connection, flow: str, outcomes: Sequence[SignalOutcome]) -> None:
    """Write what became of signals, within the transaction that settles their effect."""
    for each in outcomes:
        values = {
            "of_flow": flow,
            "of_pipeline": each.pipeline,
            "of_id": each.execution,
            "of_at": each.at,
        }
        if each.change == "paused":
            connection.execute(_pause, values)
        elif each.change == "resumed":
            connection.execute(_resume_saga, values)
            connection.execute(_resume, values)
        ended = {
            "of_number": each.number,
            "of_pipeline": each.pipeline,
            "of_at": each.at,
            "to_status": each.status,
            "to_note": storable(each.note),
        }
        connection.execute(_end, ended)


def old_signals(flow: str, before: float) -> Delete:
    """Return what deletes some of those that ended before a time."""
    old = and_(signals.c.flow == flow, signals.c.ended_at < before)
    some = select(signals.c.number).where(old).limit(ROWS)
    return delete(signals).where(signals.c.number.in_(some.scalar_subquery()))


def _row(flow: str, execution: str, action: Action, *, by: str, reason: str) -> dict[str, Any]:
    return {
        "flow": flow,
        "execution": execution,
        "pipeline": None,
        "source": None,
        "partition": None,
        "action": action,
        "requested_by": storable(by),
        "requested_at": time.time(),
        "reason": storable(reason),
        "status": "waiting",
        "expires_at": None,
        "ended_at": None,
        "note": "",
    }


def _write(connection: Connection, statement: Any) -> None:
    with transaction(connection):
        connection.execute(statement)
