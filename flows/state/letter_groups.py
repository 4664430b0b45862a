"""Groups of dead letters alike in where and how they failed, found without reading the entries.

The index `penstock_dead_letters_kinds` is sorted by pipeline, step, error code, type of event and
time. There are few groups, and they are found by leaping in it from one to the next. What is asked of
one group is then one place in the index, and comes in the order of time.

Each query is ordered by columns that no other index has in that order. `min` and `max` would say the
same, but of them PostgreSQL 16 believes that another index answers sooner: it takes conditions to be
independent, which errors and steps are not, and then walks that index to its end (1.5 s of a million).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, select

from flows.state.letter_filter import LetterFilter
from flows.state.tables import dead_letters

MANY = 200
"""Groups: beyond, they are not asked one by one."""

Conditions = list[ColumnElement[bool]]
Rows = Callable[[Any], Sequence[Any]]
"""Executes a query."""


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Where and how executions failed; dead letters alike in this are counted together."""

    pipeline: str
    step: str | None
    error_code: str
    event_type: str | None = None
    """None: of any type."""

    def conditions(self, wanted: LetterFilter, dialect: str) -> Conditions:
        """Return what finds those of the group that a filter means."""
        table = dead_letters.c
        rest = replace(wanted, pipeline=None, step=None, error_code=None)
        found = [
            table.pipeline == self.pipeline,
            is_value(table.step, self.step),
            table.error_code == self.error_code,
        ]
        if self.event_type is not None:
            found.append(table.event_type == self.event_type)
            rest = replace(rest, event_type=None)
        return [*found, *rest.conditions(dialect)]

    @property
    def order(self) -> list[Any]:
        """Return what an order by time begins with, so that the index has it.

        A column that is NULL is no constant to PostgreSQL, so the order must name it.
        """
        return [dead_letters.c.step.desc()] if self.step is None else []


def groups_of(rows: Rows, wanted: LetterFilter, *, typed: bool) -> list[LetterGroup] | None:
    """Return the groups of `wanted.flow` that the filter leaves, sorted; None for more than MANY.

    `typed`: apart by the type of event, and of those types alone that the filter takes.
    """
    table = dead_letters.c
    flow = table.flow == wanted.flow
    exact = None if wanted.has_glob else wanted.event_type
    found: list[LetterGroup] = []
    leaps = 0
    for pipeline in leap(rows, "pipeline", wanted.pipeline, flow):
        in_pipeline = [flow, table.pipeline == pipeline]
        steps: list[str | None] = [*leap(rows, "step", wanted.step, *in_pipeline)]
        if wanted.step is None:
            steps.append(None)
        for step in steps:
            at_step = [*in_pipeline, is_value(table.step, step)]
            before = [table.step] if step is None else []
            for code in leap(rows, "error_code", wanted.error_code, *at_step, before=before):
                types: Iterator[str | None] = iter([None])
                if typed:
                    of_code = [*at_step, table.error_code == code]
                    types = leap(rows, "event_type", exact, *of_code, before=before)
                for event_type in types:
                    leaps += 1
                    if leaps > MANY:
                        return None
                    if event_type is None or exact or wanted.takes_type(event_type):
                        found.append(LetterGroup(pipeline, step, code, event_type))
    return found


def leap(
    rows: Rows,
    name: str,
    only: str | None,
    *within: ColumnElement[bool],
    before: Sequence[Any] = (),
) -> Iterator[Any]:
    """Yield each value that a column of the index has there, or `only` where it has that.

    `before`: columns that `within` holds to NULL.
    """
    column = dead_letters.c[name]
    query = select(column).where(*within, column.is_not(None))
    query = query.order_by(*before, column).limit(1)
    if only is not None:
        if rows(query.where(column == only)):
            yield only
        return
    found = rows(query)
    while found:
        ((last,),) = found
        yield last
        found = rows(query.where(column > last))


def is_value(column: Any, value: str | None) -> ColumnElement[bool]:
    """Return the condition that a column has this value, or is NULL for None."""
    condition: ColumnElement[bool] = column.is_(None) if value is None else column == value
    return condition
