"""Reads, counts and removes the dead letters of a state store, a million of them as well as ten.

One index (`penstock_dead_letters_groups`) holds everything that filters ask for, sorted by *group*
(pipeline, step, error code) and time. There are few groups, and they are found by leaping from one
to the next. So a question with several conditions is asked of each group that can answer it, and a
statistic is a count between two places of the index. Neither reads the entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, or_, select

from flows.state.database import Database, transaction
from flows.state.letter_filter import LetterFilter
from flows.state.queries import upsert_of
from flows.state.records import DeadLetter
from flows.state.rows import LETTER_FIELDS, letter_of, letter_row, read_cursor
from flows.state.tables import dead_letters, pipeline_totals

_MANY = 200
"""Groups, or types of events: beyond, one query over all of them is the better one."""

_FEW = 3_000
"""A tenant with no more than this is looked through entry by entry."""

_Letter: Select[Any] = select(*(dead_letters.c[name] for name in LETTER_FIELDS))
_Key: Select[Any] = select(dead_letters.c.last_failed_at, dead_letters.c.id)


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Where and how executions failed; dead letters alike in this are counted together."""

    pipeline: str
    step: str | None
    error_code: str


class Letters:
    """The dead letters of a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- reading ------------------------------------------------------------------------------

    def page(self, wanted: LetterFilter, limit: int, after: str | None = None) -> list[DeadLetter]:
        """Return dead letters, newest failure first, from behind the cursor `after` (rows.cursor)."""
        parts = self._parts(wanted)
        if parts is None:
            query = _newest_first(_Letter.where(*self._conditions(wanted)), after).limit(limit)
            return list(map(letter_of, self._rows(query)))
        keys: list[tuple[float, str]] = []
        for conditions in parts:
            query = _Key.where(*conditions)
            keys += [tuple(row) for row in self._rows(_newest_first(query, after).limit(limit))]
        newest = sorted(keys, reverse=True)[:limit]
        if not newest:
            return []
        found = self._by_id(wanted.flow, [letter for _, letter in newest])
        return [found[letter] for _, letter in newest if letter in found]

    def count(self, wanted: LetterFilter) -> int:
        """Return how many there are."""
        query = select(func.count()).select_from(dead_letters).where(*self._conditions(wanted))
        return int(self._rows(query)[0][0])

    def depths(self, flow: str) -> dict[str, int]:
        """Return pipeline → how many there are of it."""
        table = dead_letters.c
        query = select(table.pipeline, func.count()).where(table.flow == flow)
        return {name: int(count) for name, count in self._rows(query.group_by(table.pipeline))}

    def groups(self, wanted: LetterFilter) -> list[LetterGroup]:
        """Return the groups of `wanted.flow` that its pipeline, step and error code leave."""
        found = []
        flow = dead_letters.c.flow == wanted.flow
        for pipeline in self._leap("pipeline", wanted.pipeline, flow):
            in_pipeline = dead_letters.c.pipeline == pipeline
            steps: list[str | None] = [*self._leap("step", wanted.step, flow, in_pipeline)]
            if wanted.step is None:
                steps.append(None)
            for step in steps:
                at_step = _is(dead_letters.c.step, step)
                codes = self._leap("error_code", wanted.error_code, flow, in_pipeline, at_step)
                found += [LetterGroup(pipeline, step, code) for code in codes]
        return found

    def span(self, wanted: LetterFilter) -> tuple[float, float] | None:
        """Return the times of the first and the last failure; None where there is none."""
        at = dead_letters.c.last_failed_at
        # Apart, each is one place of an index.
        ends = [
            self._rows(select(end(at)).where(*self._conditions(wanted)))[0][0]
            for end in (func.min, func.max)
        ]
        return None if ends[0] is None else (ends[0], ends[1])

    def histogram(
        self, wanted: LetterFilter, group: LetterGroup, edges: Sequence[float]
    ) -> list[int]:
        """Return how many of a group failed last between each edge and the next."""
        conditions = self._conditions(wanted, group)
        at = dead_letters.c.last_failed_at
        counts = [
            select(func.count())
            .select_from(dead_letters)
            .where(*conditions, at >= start, at < end)
            .scalar_subquery()
            for start, end in pairwise(edges)
        ]
        return list(map(int, self._rows(select(*counts))[0]))

    def newest(self, wanted: LetterFilter, group: LetterGroup) -> DeadLetter | None:
        """Return the last one of a group."""
        query = _newest_first(_Letter.where(*self._conditions(wanted, group)), None).limit(1)
        rows = self._rows(query)
        return letter_of(rows[0]) if rows else None

    # --- writing ------------------------------------------------------------------------------

    def remove(self, flow: str, ids: Sequence[str]) -> list[str]:
        """Delete those that wait; return their ids. What a replay has stays."""
        table = dead_letters.c
        gone = (
            delete(dead_letters)
            .where(table.flow == flow, table.id.in_(ids), table.status == "waiting")
            .returning(table.id)
        )

        def work(connection: Connection) -> list[str]:
            with transaction(connection):
                return list(connection.execute(gone).scalars())

        return self._database.run(work)

    def add(self, letters: Sequence[DeadLetter]) -> int:
        """Add those that are not there, waiting; return how many. Their flows are known from then."""
        rows = [letter_row(each) | {"status": "waiting", "replay": None} for each in letters]
        upsert = upsert_of(self._database.dialect)
        adding = upsert(dead_letters).on_conflict_do_nothing().returning(dead_letters.c.id)
        pipelines = sorted({(each.flow, each.pipeline) for each in letters})
        known = [
            {
                "flow": flow,
                "pipeline": pipeline,
                "shard": "imported",
                "done": 0,
                "failed": 0,
                "skipped": 0,
            }
            for flow, pipeline in pipelines
        ]

        def work(connection: Connection) -> int:
            with transaction(connection):
                added = sum(
                    len(connection.execute(adding.values(row)).all())
                    for row in sorted(rows, key=lambda row: str(row["id"]))
                )
                connection.execute(upsert(pipeline_totals).on_conflict_do_nothing(), known)
            return added

        return self._database.run(work) if rows else 0

    # --- the queries --------------------------------------------------------------------------

    def _parts(self, wanted: LetterFilter) -> list[list[ColumnElement[bool]]] | None:
        """Return the conditions of the parts to ask one by one, each of one place in an index.

        None where one of the indexes has all that is asked for.
        """
        if wanted.flow is None or wanted.ids:
            return None
        of_group = sum(
            each is not None for each in (wanted.pipeline, wanted.step, wanted.error_code)
        )
        beside = (wanted.event_type is not None) + (wanted.tenant is not None)
        if not wanted.has_glob and of_group + beside < 2:
            return None
        if wanted.tenant is not None and self._has_few(wanted.flow, wanted.tenant):
            return None
        typed: list[list[ColumnElement[bool]]] = [[]]
        if wanted.has_glob:
            types = self._types(wanted)
            if types is None:
                return None
            # What they have in place of the glob; a type may itself look like one.
            typed = [[dead_letters.c.event_type == each] for each in types]
            wanted = replace(wanted, event_type=None)
        if not of_group and wanted.tenant is None:
            return [self._conditions(wanted) + each for each in typed]
        groups = self.groups(wanted)
        if len(groups) * len(typed) > _MANY:
            return None
        return [self._conditions(wanted, group) + each for group in groups for each in typed]

    def _types(self, wanted: LetterFilter) -> list[str] | None:
        """Return the types of events that the glob stands for; None where they are too many."""
        found = []
        flow = dead_letters.c.flow == wanted.flow
        for number, each in enumerate(self._leap("event_type", None, flow)):
            if number == _MANY:
                return None
            if wanted.takes_type(each):
                found.append(each)
        return found

    def _has_few(self, flow: str, tenant: str) -> bool:
        table = dead_letters.c
        some = select(table.tenant).where(table.flow == flow, table.tenant == tenant)
        counted = select(func.count()).select_from(some.limit(_FEW + 1).subquery())
        return int(self._rows(counted)[0][0]) <= _FEW

    def _conditions(
        self, wanted: LetterFilter, group: LetterGroup | None = None
    ) -> list[ColumnElement[bool]]:
        if group is None:
            return wanted.conditions(self._database.dialect)
        rest = replace(wanted, pipeline=None, step=None, error_code=None)
        table = dead_letters.c
        return [
            table.pipeline == group.pipeline,
            _is(table.step, group.step),
            table.error_code == group.error_code,
            *rest.conditions(self._database.dialect),
        ]

    def _leap(self, name: str, only: str | None, *within: ColumnElement[bool]) -> Iterator[str]:
        """Yield each value that a column of the index has there, or `only` where it has that."""
        column = dead_letters.c[name]
        query = select(func.min(column)).where(*within)
        if only is not None:
            query = query.where(column == only)
        last: str | None = None
        while True:
            ((found,),) = self._rows(query if last is None else query.where(column > last))
            if found is None:
                return
            yield found
            if only is not None:
                return
            last = found

    def _by_id(self, flow: str | None, ids: Sequence[str]) -> Mapping[str, DeadLetter]:
        table = dead_letters.c
        query = _Letter.where(table.flow == flow, table.id.in_(ids))
        return {letter.id: letter for letter in map(letter_of, self._rows(query))}

    def _rows(self, query: Any) -> Sequence[Any]:
        return self._database.run(lambda connection: connection.execute(query).all())


def _is(column: Any, value: str | None) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = column.is_(None) if value is None else column == value
    return condition


def _newest_first(query: Select[Any], after: str | None) -> Select[Any]:
    table = dead_letters.c
    query = query.order_by(table.last_failed_at.desc(), table.id.desc())
    if after is None:
        return query
    at, letter = read_cursor(after)
    return query.where(
        table.last_failed_at <= at, or_(table.last_failed_at < at, table.id < letter)
    )
