"""Every statement on event archives, and what their rows say."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Float,
    Select,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    union_all,
)

from flows.state.records import ArchiveChunk
from flows.state.rows import Row, span_of
from flows.state.tables import archive_chunks, archive_totals

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
    first_id: int | None = None


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


PLACE_COLUMNS = tuple(archive_chunks.c[field.name] for field in fields(ChunkPlace))
CHUNK_COLUMNS = tuple(archive_chunks.c[field.name] for field in fields(ArchiveChunk))
_at = archive_chunks.c


def chunk_row_of(flow: str, chunk: ArchiveChunk) -> Row:
    """Return the row of a chunk."""
    row: Row = {field.name: getattr(chunk, field.name) for field in fields(ArchiveChunk)}
    span = min(_SPANS - 1, span_of(chunk.last_time - chunk.first_time))
    return row | {"flow": flow, "span": span, "state": WHOLE, "bytes": len(chunk.body)}


def minus(flow: str, source: str, chunks: int, events: int, size: int) -> Row:
    """Return what is taken from the totals."""
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
        "compacted_id": None,
    }


def adding(upsert: Any) -> Any:
    """Return what adds to the totals of a shard."""
    new, table = upsert(archive_totals), archive_totals.c

    def greater(name: str) -> Any:
        old, fresh = table[name], new.excluded[name]
        return case((or_(old.is_(None), fresh > old), fresh), else_=old)

    added = {name: table[name] + new.excluded[name] for name in ("chunks", "events", "bytes")}
    furthest = {name: greater(name) for name in ("forgotten_id", "forgotten_until", "compacted_id")}
    return new.on_conflict_do_update(
        index_elements=["flow", "source", "shard"], set_=added | furthest
    )


ADD_CHUNK = insert(archive_chunks)


def _of_window() -> list[Any]:
    return [
        _at.flow == bindparam("flow"),
        _at.source == bindparam("source"),
        _at.last_time >= bindparam("start", type_=Float),
        _at.first_time < bindparam("end", type_=Float),
    ]


PAGE: Select[Any] = (
    select(*PLACE_COLUMNS)
    .where(
        *_of_window(),
        _at.id > bindparam("after"),
        or_(_at.id <= bindparam("last"), _at.first_id <= bindparam("last")),
    )
    .order_by(_at.id)
    .limit(ROWS)
)

EVERY: Select[Any] = (
    select(*PLACE_COLUMNS)
    .where(
        _at.flow == bindparam("flow"),
        _at.source == bindparam("source"),
        _at.id > bindparam("after"),
    )
    .order_by(_at.id)
    .limit(ROWS)
)

HOLDING: Select[Any] = (
    select(_at.id)
    .where(
        _at.flow == bindparam("flow"),
        _at.source == bindparam("source"),
        _at.id >= bindparam("number"),
        _at.first_id <= bindparam("number"),
    )
    .limit(1)
)
"""The chunk that another was put into."""

MISSING: Select[Any] = select(*PLACE_COLUMNS).where(*_of_window(), _at.state > 0).order_by(_at.id)

OLDEST = select(func.min(_at.archived_at)).where(
    _at.flow == bindparam("flow"), _at.source == bindparam("source")
)

TIMES = select(func.min(_at.first_time), func.max(_at.last_time)).where(
    _at.flow == bindparam("flow"), _at.source == bindparam("source"), _at.count > 0
)

_sum = archive_totals.c
TOTALS = (
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
def extent_query() -> Select[Any]:
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
    columns: list[ColumnElement[Any]] = [
        func.min(found.id),
        func.max(found.id),
        func.count(),
        func.sum(found.count),
        func.sum(found.bytes),
        func.min(found.first_time),
        func.max(found.last_time),
        func.sum(split),
    ]
    return select(*columns)
