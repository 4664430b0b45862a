"""Where there is something of an execution besides its history: asked for in one statement.

Of most there is nothing else. On PostgreSQL, and where much else runs, it is the number of statements that
takes the time, not what each looks at.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Text, bindparam, select

from flows.state.database import Database
from flows.state.tables import dead_letters, parked, pipeline_totals, signals


class Traces(NamedTuple):
    """Whether there is a parked execution, a dead letter, a signal whose id starts so."""

    parked: bool = True
    letters: bool = True
    signals: bool = True


def traces_of(database: Database, flow: str, prefix: str) -> Traces:
    """Return what there is of executions whose id starts so."""
    values = {"flow": flow, "first": prefix, "last": prefix + "~"}
    row = database.run(lambda connection: connection.execute(_ANY, values).one())
    return Traces(*map(bool, row))


def _any() -> Any:
    flow, first, last = (bindparam(name, type_=Text) for name in ("flow", "first", "last"))
    # Parked ones are found by pipeline and id.
    known = select(pipeline_totals.c.pipeline).where(pipeline_totals.c.flow == flow)
    waiting = select(parked.c.id).where(
        parked.c.flow == flow,
        parked.c.pipeline.in_(known),
        parked.c.id >= first,
        parked.c.id < last,
    )
    letters = select(dead_letters.c.id).where(
        dead_letters.c.flow == flow, dead_letters.c.id >= first, dead_letters.c.id < last
    )
    asked = select(signals.c.execution).where(
        signals.c.flow == flow, signals.c.execution >= first, signals.c.execution < last
    )
    return select(waiting.exists(), letters.exists(), asked.exists())


_ANY = _any()
