"""The rows of event archives: written with the checkpoint, found by time, forgotten by age and size.

A chunk holds what one batch brought, and ids grow in the order of archiving: within a source partition
that is the order of the source. Chunks of a window are found by their *span*, as history's are
(flows.state.chunk_store). What has been added up stands in a row per shard, so that nothing is counted
to find out what an archive holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Float,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    union_all,
    update,
)

from flows.state.database import Database, transaction
from flows.state.queries import upsert_of
from flows.state.records import ArchiveChunk
from flows.state.rows import Row, span_of
from flows.state.tables import archive_chunks, archive_totals, leases

WHOLE, DAMAGED, GIVEN_UP, NOT_ARCHIVED = range(4)
"""What a chunk's `state` says; the last is no chunk, but a time in which the flow ran without one."""

ROWS = 200
"""Forgotten in one transaction: a few milliseconds."""

_SPANS = 33
"""Up to 2**32 seconds, since an event may have no sensible time; what spans more counts as that."""


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """A chunk without its body."""

    id: int
    first_time: float
    last_time: float
    archived_at: float
    count: int
    partitions: str
    types: str | None
    state: int


@dataclass(frozen=True, slots=True)
class Extent:
    """The chunks that reach into a window, added up."""

    first_id: int = 0
    last_id: int = 0
    """0: there is none."""
    chunks: int = 0
    events: int = 0
    bytes: int = 0
    first_time: float | None = None
    last_time: float | None = None
    split: int = 0
    """How many of them reach out of it too."""


@dataclass(frozen=True, slots=True)
class ArchiveTotals:
    """What the archive of a source holds, and what it once held."""

    source: str
    chunks: int
    events: int
    bytes: int
    began_at: float | None
    """The time of the first event that was ever archived, in seconds."""
    forgotten_id: int
    forgotten_until: float | None
    """The latest time of an event that has been forgotten."""
    off_since: float | None
    """Since when the flow runs without this archive."""
    oldest: float | None = None
    """When the oldest chunk was archived."""


_PLACE = tuple(archive_chunks.c[field.name] for field in fields(ChunkPlace))
_CHUNK = tuple(archive_chunks.c[field.name] for field in fields(ArchiveChunk))
_at = archive_chunks.c


class ArchiveStore:
    """The archives of a state store. All but `apart` belongs to the thread of its connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._add_totals = _adding(upsert_of(database.dialect))

    def apart(self) -> ArchiveStore:
        """Return the same archives on a connection of their own, for another thread to use and close."""
        return ArchiveStore(self._database.another())

    def close(self) -> None:
        """Close the connection; of one that `apart` returned."""
        self._database.close()

    # --- writing ------------------------------------------------------------------------------

    def rows(
        self, flow: str, shard: str, chunks: Sequence[ArchiveChunk]
    ) -> list[tuple[Any, list[Row]]]:
        """Return the statements that store chunks, with their parameters."""
        totals = [
            {
                "flow": flow,
                "source": chunk.source,
                "shard": shard,
                "chunks": 1,
                "events": chunk.count,
                "bytes": len(chunk.body),
                "began_at": chunk.first_time,
                "forgotten_id": 0,
                "forgotten_until": None,
            }
            for chunk in chunks
        ]
        return [
            (_ADD_CHUNK, [_row(flow, chunk) for chunk in chunks]),
            (self._add_totals, totals),
        ]

    def run_with(self, flow: str, source: str, *, archived: bool, now: float) -> None:
        """Note whether a source is run with its archive from now on: what it misses is a gap."""
        known = self.totals(flow, source)
        if not known or (known[0].off_since is None) == archived:
            return
        of = (archive_totals.c.flow == flow, archive_totals.c.source == source)
        off_since = update(archive_totals).where(*of)
        since = select(func.min(archive_totals.c.off_since)).where(*of)

        def work(connection: Connection) -> None:
            with transaction(connection):
                off = connection.execute(since).scalar()
                if not archived:
                    connection.execute(off_since.values(off_since=now if off is None else off))
                elif off is not None:
                    gap = ArchiveChunk(source, off, now, now, 0, "[]", None, b"", b"")
                    row = _row(flow, gap) | {"state": NOT_ARCHIVED}
                    connection.execute(insert(archive_chunks), row)
                    connection.execute(off_since.values(off_since=None))

        self._database.run(work)

    def mark(self, chunk: int, state: int) -> None:
        """Remember that a chunk was found damaged, or whole again."""
        marking = update(archive_chunks).where(_at.id == chunk, _at.state.in_((WHOLE, DAMAGED)))
        self._execute(marking.values(state=state))

    def give_up(self, flow: str, source: str, chunk: int) -> None:
        """Let go of a damaged chunk: readers pass it over, and surveys show a gap."""

        def work(connection: Connection) -> None:
            with transaction(connection):
                size = connection.execute(select(_at.bytes).where(_at.id == chunk)).scalar() or 0
                giving = update(archive_chunks).where(_at.id == chunk, _at.state != GIVEN_UP)
                if connection.execute(giving.values(state=GIVEN_UP, body=b"", bytes=0)).rowcount:
                    connection.execute(self._add_totals, _less(flow, source, 0, 0, size))

        self._database.run(work)

    # --- finding ------------------------------------------------------------------------------

    def extent(self, flow: str, source: str, since: float, until: float) -> Extent:
        """Return what chunks there are of [since, until), in seconds."""
        found = self._rows(_extent(), flow=flow, source=source, start=since, end=until)[0]
        return Extent(*found) if found[0] is not None else Extent()

    def wait_for_commits(self, flow: str) -> None:
        """Wait for transactions that have begun to store chunks: what they add may have smaller ids.

        Each holds its lease's row while it lasts. SQLite has one at a time. Raises RetryableError when
        that takes too long.
        """
        if self._database.dialect != "postgresql":
            return
        held = select(leases.c.shard).where(leases.c.flow == flow).order_by(leases.c.shard)

        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(held.with_for_update(read=True)).all()

        self._database.run(work)

    def page(
        self, flow: str, source: str, *, since: float, until: float, after: int, last: int
    ) -> list[ChunkPlace]:
        """Return the next chunks of [since, until) behind the id `after`, up to `last`, in order."""
        rows = self._rows(
            _PAGE, flow=flow, source=source, start=since, end=until, after=after, last=last
        )
        return [ChunkPlace(*row) for row in rows]

    def every(self, flow: str, source: str, after: int) -> list[ChunkPlace]:
        """Return the next chunks behind the id `after`, whatever their times say."""
        return [
            ChunkPlace(*row) for row in self._rows(_EVERY, flow=flow, source=source, after=after)
        ]

    def missing(self, flow: str, source: str, since: float, until: float) -> list[ChunkPlace]:
        """Return chunks of [since, until) that can't be read, and times without an archive."""
        rows = self._rows(_MISSING, flow=flow, source=source, start=since, end=until)
        return [ChunkPlace(*row) for row in rows]

    def chunk(self, number: int) -> ArchiveChunk | None:
        """Return a chunk; None when it has been forgotten."""
        rows = self._rows(select(*_CHUNK).where(_at.id == bindparam("id")), id=number)
        if not rows:
            return None
        row = dict(rows[0]._mapping)  # noqa: SLF001 - its public name
        return ArchiveChunk(**row | {"digest": bytes(row["digest"]), "body": bytes(row["body"])})

    def totals(self, flow: str, source: str | None = None) -> list[ArchiveTotals]:
        """Return what each source's archive holds: those that ever held anything."""
        query = _TOTALS if source is None else _TOTALS.where(_sum.source == bindparam("source"))
        rows = self._rows(query, flow=flow, source=source)
        return [
            ArchiveTotals(
                name,
                int(chunks),
                int(events),
                int(size),
                began,
                int(forgotten),
                until,
                off,
                self._rows(_OLDEST, flow=flow, source=name)[0][0],
            )
            for name, chunks, events, size, began, forgotten, until, off in rows
        ]

    def times(self, flow: str, source: str) -> tuple[float, float] | None:
        """Return the times of the first and the last event; reads an index from end to end."""
        first, last = self._rows(_TIMES, flow=flow, source=source)[0]
        return None if first is None else (first, last)

    # --- forgetting ---------------------------------------------------------------------------

    def forget(self, flow: str, source: str, *, before: float | None, max_bytes: int | None) -> int:
        """Delete what was archived before a time, and the oldest of what is too much; return the chunks."""
        forgotten = 0
        while before is not None:
            deleted = self._forget(flow, source, _at.archived_at < before, None)
            forgotten += deleted
            if deleted < ROWS:
                break
        while max_bytes is not None:
            held = sum(each.bytes for each in self.totals(flow, source))
            if held <= max_bytes:
                break
            deleted = self._forget(flow, source, None, held - max_bytes)
            forgotten += deleted
            if not deleted:
                break
        return forgotten

    def _forget(self, flow: str, source: str, old: Any, excess: int | None) -> int:
        oldest = (
            select(_at.id, _at.bytes)
            .where(_at.flow == flow, _at.source == source, *([] if old is None else [old]))
            .order_by(_at.archived_at, _at.id)
            .limit(ROWS)
        )

        def work(connection: Connection) -> int:
            with transaction(connection):
                ids: list[int] = []
                left = excess
                for number, size in connection.execute(oldest).all():
                    if left is not None and left <= 0:
                        break
                    left = None if left is None else left - size
                    ids.append(number)
                if not ids:
                    return 0
                # Of two workers that forget at once, one has each row.
                gone = connection.execute(
                    delete(archive_chunks)
                    .where(_at.id.in_(ids))
                    .returning(_at.id, _at.count, _at.bytes, _at.last_time, _at.state)
                ).all()
                real = [row for row in gone if row[4] != NOT_ARCHIVED]
                if real:
                    less = _less(
                        flow, source, len(real), sum(r[1] for r in real), sum(r[2] for r in real)
                    )
                    less["forgotten_id"] = max(row[0] for row in real)
                    less["forgotten_until"] = max(row[3] for row in real)
                    connection.execute(self._add_totals, less)
                return len(ids)

        return self._database.run(work)

    def _execute(self, statement: Any) -> None:
        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(statement)

        self._database.run(work)

    def _rows(self, query: Any, **values: Any) -> Sequence[Any]:
        return self._database.run(lambda connection: connection.execute(query, values).all())


def _row(flow: str, chunk: ArchiveChunk) -> Row:
    row: Row = {field.name: getattr(chunk, field.name) for field in fields(ArchiveChunk)}
    span = min(_SPANS - 1, span_of(chunk.last_time - chunk.first_time))
    return row | {"flow": flow, "span": span, "state": WHOLE, "bytes": len(chunk.body)}


def _less(flow: str, source: str, chunks: int, events: int, size: int) -> Row:
    return {
        "flow": flow,
        "source": source,
        "shard": "",
        "chunks": -chunks,
        "events": -events,
        "bytes": -size,
        "began_at": None,
        "forgotten_id": 0,
        "forgotten_until": None,
    }


def _adding(upsert: Any) -> Any:
    new, table = upsert(archive_totals), archive_totals.c

    def greater(name: str) -> Any:
        old, fresh = table[name], new.excluded[name]
        return case((or_(old.is_(None), fresh > old), fresh), else_=old)

    added = {name: table[name] + new.excluded[name] for name in ("chunks", "events", "bytes")}
    furthest = {name: greater(name) for name in ("forgotten_id", "forgotten_until")}
    return new.on_conflict_do_update(
        index_elements=["flow", "source", "shard"], set_=added | furthest
    )


_ADD_CHUNK = insert(archive_chunks)


def _of_window() -> list[Any]:
    return [
        _at.flow == bindparam("flow"),
        _at.source == bindparam("source"),
        _at.last_time >= bindparam("start", type_=Float),
        _at.first_time < bindparam("end", type_=Float),
    ]


_PAGE: Select[Any] = (
    select(*_PLACE)
    .where(*_of_window(), _at.id > bindparam("after"), _at.id <= bindparam("last"))
    .order_by(_at.id)
    .limit(ROWS)
)

_EVERY: Select[Any] = (
    select(*_PLACE)
    .where(
        _at.flow == bindparam("flow"),
        _at.source == bindparam("source"),
        _at.id > bindparam("after"),
    )
    .order_by(_at.id)
    .limit(ROWS)
)

_MISSING: Select[Any] = select(*_PLACE).where(*_of_window(), _at.state > 0).order_by(_at.id)

_OLDEST = select(func.min(_at.archived_at)).where(
    _at.flow == bindparam("flow"), _at.source == bindparam("source")
)

_TIMES = select(func.min(_at.first_time), func.max(_at.last_time)).where(
    _at.flow == bindparam("flow"), _at.source == bindparam("source"), _at.count > 0
)

_sum = archive_totals.c
_TOTALS = (
    select(
        _sum.source,
        func.sum(_sum.chunks),
        func.sum(_sum.events),
        func.sum(_sum.bytes),
        func.min(_sum.began_at),
        func.max(_sum.forgotten_id),
        func.max(_sum.forgotten_until),
        func.min(_sum.off_since),
    )
    .where(_sum.flow == bindparam("flow"))
    .group_by(_sum.source)
    .order_by(_sum.source)
)


@cache
def _extent() -> Select[Any]:
    """Add up the chunks of a window: of each span they are one range of an index."""
    start, end = bindparam("start", type_=Float), bindparam("end", type_=Float)
    ranges: CompoundSelect[Any] = union_all(
        *(
            select(_at.id, _at.count, _at.bytes, _at.first_time, _at.last_time).where(
                *_of_window(),
                _at.span == span,
                # What is beyond the last span may end at any time.
                *([_at.last_time <= end + 2.0**span] if span < _SPANS - 1 else []),
                _at.count > 0,
            )
            for span in range(_SPANS)
        )
    )
    found = ranges.subquery().c
    split = case((or_(found.first_time < start, found.last_time >= end), 1), else_=0)
    return select(  # type: ignore[return-value] # its columns, one by one
        func.min(found.id),
        func.max(found.id),
        func.count(),
        func.sum(found.count),
        func.sum(found.bytes),
        func.min(found.first_time),
        func.max(found.last_time),
        func.sum(split),
    )
