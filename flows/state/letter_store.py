"""Reads, counts and removes the dead letters of a state store, a million of them as well as ten.

A question with several conditions is asked of each group that can answer it (`letter_groups.py`), and
a statistic is a count between two places of an index. Neither reads the entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, or_, select

from flows.state import letter_groups
from flows.state.database import Database, transaction
from flows.state.letter_filter import LetterFilter
from flows.state.letter_groups import Conditions, LetterGroup, groups_of, leap
from flows.state.queries import upsert_of
from flows.state.records import DeadLetter
from flows.state.rows import LETTER_FIELDS, Row, letter_of, letter_row, read_cursor
from flows.state.tables import dead_letters, letter_copies, pipeline_totals, whole

_FEW = 3_000
"""A tenant with no more than this is looked through entry by entry."""

_Letter: Select[Any] = select(*(dead_letters.c[name] for name in LETTER_FIELDS))
_Key: Select[Any] = select(dead_letters.c.last_failed_at, dead_letters.c.id)


@dataclass(frozen=True, slots=True)
class LetterTally:
    """How many of a group failed last between each edge and the next, and when the last one did."""

    group: LetterGroup
    histogram: tuple[int, ...]
    last: float


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
        for conditions, order in parts:
            query = _newest_first(_Key.where(*conditions), after, order)
            keys += [tuple(row) for row in self._rows(query.limit(limit))]
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

    def span(self, wanted: LetterFilter) -> tuple[float, float] | None:
        """Return the times of the first and the last failure; None where there is none."""
        at = dead_letters.c.last_failed_at
        parts = self._parts(wanted) or [(self._conditions(wanted), [])]
        firsts: list[float] = []
        lasts: list[float] = []
        for conditions, order in parts:
            query = select(at).where(*conditions).limit(1)
            upwards = [each.element for each in order]
            firsts += [row[0] for row in self._rows(query.order_by(*upwards, at))]
            lasts += [row[0] for row in self._rows(query.order_by(*order, at.desc()))]
        return (min(firsts), max(lasts)) if firsts and lasts else None

    def tallies(self, wanted: LetterFilter, edges: Sequence[float]) -> list[LetterTally]:
        """Return what there is of each group of `wanted.flow`; `edges` are as far apart everywhere.

        A group may come in parts: one for each type of event.
        """
        groups = groups_of(self._rows, wanted, typed=True)
        if groups is None:
            return self._tallied_at_once(wanted, edges)
        tallies = (self._tally(wanted, group, edges) for group in groups)
        return [tally for tally in tallies if tally is not None]

    def newest(self, wanted: LetterFilter, tally: LetterTally) -> DeadLetter | None:
        """Return the last one that a tally has counted; if that is gone, one before it."""
        group, at = tally.group, dead_letters.c.last_failed_at
        query = _Key.where(*group.conditions(wanted, self._database.dialect))
        newest_first = _newest_first(query, None, group.order).limit(1)
        found: Sequence[Any] = ()
        if group.event_type is None:  # its place in time is in no index, unless it is known
            found = self._rows(newest_first.where(at >= tally.last))
        found = found or self._rows(newest_first)
        return self._by_id(wanted.flow, [found[0].id]).get(found[0].id) if found else None

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

    def keep(self, letters: Sequence[DeadLetter], copies: Mapping[str, Row]) -> list[str]:
        """Add those that are not there, waiting, and the copies of these; return their ids.

        `copies`: letter → the row of its copy for a sink. Nothing of one that is there is changed.
        """
        upsert = upsert_of(self._database.dialect)
        adding = upsert(dead_letters).on_conflict_do_nothing().returning(dead_letters.c.id)
        copying = upsert(letter_copies).on_conflict_do_nothing()
        rows = sorted(map(letter_row, letters), key=lambda row: str(row["id"]))

        def work(connection: Connection) -> list[str]:
            added: list[str] = []
            with transaction(connection):
                for row in rows:
                    added += connection.execute(adding.values(row)).scalars()
                copied = [copies[each] for each in added if each in copies]
                if copied:
                    connection.execute(copying, copied)
            return added

        return self._database.run(work) if rows else []

    # --- the queries --------------------------------------------------------------------------

    def _parts(self, wanted: LetterFilter) -> list[tuple[Conditions, list[Any]]] | None:
        """Return the parts to ask one by one, each of one place in an index: conditions and order.

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
            return [(wanted.conditions(self._database.dialect, by="tenant"), [])]
        if not of_group and wanted.tenant is None:
            types = self._types(wanted)
            if types is None:
                return None
            # In place of the glob; a type may itself look like one.
            rest = self._conditions(replace(wanted, event_type=None))
            return [([*rest, dead_letters.c.event_type == each], []) for each in types]
        groups = groups_of(self._rows, wanted, typed=True)
        if groups is None:
            groups = groups_of(self._rows, wanted, typed=False)
        if groups is None:
            return None
        dialect = self._database.dialect
        return [(group.conditions(wanted, dialect), group.order) for group in groups]

    def _types(self, wanted: LetterFilter) -> list[str] | None:
        """Return the types of events that the glob stands for; None where they are too many."""
        found = []
        flow = dead_letters.c.flow == wanted.flow
        for number, each in enumerate(leap(self._rows, "event_type", None, flow)):
            if number == letter_groups.MANY:
                return None
            if wanted.takes_type(each):
                found.append(each)
        return found

    def _has_few(self, flow: str, tenant: str) -> bool:
        table = dead_letters.c
        some = select(table.tenant).where(table.flow == flow, table.tenant == tenant)
        counted = select(func.count()).select_from(some.limit(_FEW + 1).subquery())
        return int(self._rows(counted)[0][0]) <= _FEW

    def _conditions(self, wanted: LetterFilter) -> Conditions:
        return wanted.conditions(self._database.dialect)

    def _tally(
        self, wanted: LetterFilter, group: LetterGroup, edges: Sequence[float]
    ) -> LetterTally | None:
        at = dead_letters.c.last_failed_at
        conditions = group.conditions(wanted, self._database.dialect)
        counts = [
            select(func.count())
            .select_from(dead_letters)
            .where(*conditions, at >= start, at < end)
            .scalar_subquery()
            for start, end in pairwise(edges)
        ]
        newest = select(at).where(*conditions).order_by(*group.order, at.desc()).limit(1)
        ((*histogram, last),) = self._rows(select(*counts, newest.scalar_subquery()))
        return LetterTally(group, tuple(histogram), last) if any(histogram) else None

    def _tallied_at_once(self, wanted: LetterFilter, edges: Sequence[float]) -> list[LetterTally]:
        """Return the tallies of groups that are too many to be asked one by one."""
        table = dead_letters.c
        at = table.last_failed_at
        names = (table.pipeline, table.step, table.error_code)
        bar = whole((at - edges[0]) / (edges[1] - edges[0])).label("bar")
        query = (
            select(*names, bar, func.count(), func.max(at))
            .where(*self._conditions(wanted), at >= edges[0], at < edges[-1])
            .group_by(*names, bar)
        )
        counted: dict[tuple[str, str | None, str], list[int]] = {}
        lasts: dict[tuple[str, str | None, str], float] = {}
        for pipeline, step, code, place, count, last in self._rows(query):
            name = (pipeline, step, code)
            counted.setdefault(name, [0] * (len(edges) - 1))[place] += count
            lasts[name] = max(last, lasts.get(name, last))
        return [
            LetterTally(LetterGroup(*name), tuple(histogram), lasts[name])
            for name, histogram in counted.items()
        ]

    def _by_id(self, flow: str | None, ids: Sequence[str]) -> Mapping[str, DeadLetter]:
        table = dead_letters.c
        query = _Letter.where(table.flow == flow, table.id.in_(ids))
        return {letter.id: letter for letter in map(letter_of, self._rows(query))}

    def _rows(self, query: Any) -> Sequence[Any]:
        return self._database.run(lambda connection: connection.execute(query).all())


def _newest_first(
    query: Select[Any], after: str | None, before: Sequence[ColumnElement[Any]] = ()
) -> Select[Any]:
    """Return it in order of time; `before`: what the order begins with, the same for all."""
    table = dead_letters.c
    query = query.order_by(*before, table.last_failed_at.desc(), table.id.desc())
    if after is None:
        return query
    at, letter = read_cursor(after)
    return query.where(
        table.last_failed_at <= at, or_(table.last_failed_at < at, table.id < letter)
    )
