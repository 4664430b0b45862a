"""Finds the chunks of a flow's history: around a time, or newest first. Bodies are read when asked for.

A chunk holds the events of one batch, so its times may be a moment apart or years. Chunks around a time
are found by their *span*, the smallest n with `last - first <= 2**n` seconds: of each span they are one
range of an index, and so few rows are looked at, whatever there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import orjson
import zstandard
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Float,
    Select,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    union_all,
)

from flows.state.database import Database, transaction
from flows.state.queries import upsert_of
from flows.state.tables import flow_versions, history_chunks

_UNKNOWN_SPAN = 99
"""Of chunks that were recorded before there were spans."""

_NEAR = 0.002
"""Seconds by which a time in milliseconds may be off."""


_TOGETHER = 500
"""Chunks that one statement names."""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk without its body."""

    id: int
    flow: str
    flow_version: str
    pipeline: str
    source: str
    recorded_at: float
    count: int
    failed: int
    skipped: int | None
    errors: str | None
    types: str | None


@dataclass(frozen=True, slots=True)
class ChunkFilter:
    """Chunks that may hold an execution that is asked for; None asks for nothing."""

    flow: str
    pipeline: str | None = None
    status: str | None = None
    """`completed`, `failed` or `skipped`."""
    error_code: str | None = None
    event_type: str | None = None
    """A glob; chunks of events of other types may be among what is found."""
    since: float | None = None
    """Recorded at or after, in seconds since the epoch."""
    until: float | None = None
    """Recorded before."""

    def may_hold(self, row: ChunkRow) -> bool:
        """Whether one of its executions may have the error that is asked for."""
        codes = row.errors
        return self.error_code is None or codes is None or self.error_code in codes.split("\n")


_SHOWN = tuple(history_chunks.c[field.name] for field in fields(ChunkRow))


class Chunks:
    """The history of a state store, and what the flows in it were like."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def around(self, flow: str, first: float, last: float) -> list[ChunkRow]:
        """Return the chunks whose events' times reach into [first, last], in seconds; newest first."""
        spans = tuple(row[0] for row in self._rows(_SPANS_OF, {"flow": flow}))
        if not spans:
            return []
        values = {"flow": flow, "start": first - _NEAR, "end": last + _NEAR}
        found = [ChunkRow(*row) for row in self._rows(_around(spans), values)]
        return sorted(found, key=lambda row: (row.recorded_at, row.id), reverse=True)

    def page(
        self, wanted: ChunkFilter, limit: int, before: tuple[float, int] | None = None
    ) -> list[ChunkRow]:
        """Return chunks, the newest first; those before (recorded_at, id), that one included."""
        at = history_chunks.c
        query: Select[Any] = (
            select(at.id)
            .where(*_conditions(wanted))
            .order_by(at.recorded_at.desc(), at.id.desc())
            .limit(limit)
        )
        if before is not None:
            recorded, number = before
            query = query.where(
                at.recorded_at <= recorded,
                or_(at.recorded_at < recorded, at.id <= number),
            )
        rows = self._by_id([row[0] for row in self._rows(query)])
        return sorted(rows, key=lambda row: (row.recorded_at, row.id), reverse=True)

    def bodies(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Return chunk → its body; those that are no longer there are left out."""
        at = history_chunks.c
        rows = self._rows(select(at.id, at.body).where(at.id.in_(ids)))
        return {number: bytes(body) for number, body in rows}

    # --- what a flow was like -----------------------------------------------------------------

    def save_version(self, flow: str, version: str, document: Any, now: float) -> None:
        """Keep what the pipelines of this version of a flow are like, as the newest of its versions.

        Nothing is written where that is known: of many workers that start, one has to.
        """
        if self.newest_version(flow) == version and self.version(flow, version) == document:
            return
        body = zstandard.ZstdCompressor(level=3).compress(orjson.dumps(document))
        row = {"flow": flow, "version": version, "recorded_at": now, "body": body}
        new = upsert_of(self._database.dialect)(flow_versions)
        # What an older program has kept of it may say less.
        saving = new.on_conflict_do_update(
            index_elements=["flow", "version"],
            set_={name: new.excluded[name] for name in ("recorded_at", "body")},
        )

        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(saving, row)

        self._database.run(work)

    def version(self, flow: str, version: str) -> Any:
        """Return what `save_version` has kept; None where it has not."""
        at = flow_versions.c
        rows = self._rows(select(at.body).where(at.flow == flow, at.version == version))
        return orjson.loads(zstandard.ZstdDecompressor().decompress(rows[0][0])) if rows else None

    def versions(self, flow: str) -> Iterator[Any]:
        """Yield what `save_version` has kept of each version, the newest first."""
        at = flow_versions.c
        query = select(at.version).where(at.flow == flow).order_by(at.recorded_at.desc())
        for (version,) in self._rows(query):
            document = self.version(flow, version)
            if document is not None:
                yield document

    def newest_version(self, flow: str) -> str | None:
        """Return the version of a flow that a worker was started with last."""
        at = flow_versions.c
        query = select(at.version).where(at.flow == flow).order_by(at.recorded_at.desc()).limit(1)
        rows = self._rows(query)
        return rows[0][0] if rows else None

    def _by_id(self, ids: Sequence[int]) -> list[ChunkRow]:
        found: list[ChunkRow] = []
        for start in range(0, len(ids), _TOGETHER):
            some = history_chunks.c.id.in_(ids[start : start + _TOGETHER])
            found += (ChunkRow(*row) for row in self._rows(select(*_SHOWN).where(some)))
        return found

    def _rows(self, query: Any, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        return self._database.run(lambda connection: connection.execute(query, values).all())


def _spans_of() -> Select[Any]:
    """Return what finds the spans that chunks of a flow have: one seek in the index for each.

    Few have any: a statement with a part for each that could be takes PostgreSQL longer to plan than to run.
    """
    at = history_chunks.c
    of_flow = at.flow == bindparam("flow")
    spans = select(func.min(at.span).label("span")).where(of_flow).cte("spans", recursive=True)
    following = select(func.min(at.span)).where(of_flow, at.span > spans.c.span).scalar_subquery()
    spans = spans.union_all(select(following).where(spans.c.span.is_not(None)))
    return select(spans.c.span).where(spans.c.span.is_not(None)).order_by(spans.c.span)


_SPANS_OF = _spans_of()


@lru_cache(maxsize=64)
def _around(spans: tuple[int, ...]) -> CompoundSelect[Any]:
    """Return what finds chunks of these spans around [:start, :end]; made once for each that are there."""
    at = history_chunks.c
    start, end = bindparam("start", type_=Float), bindparam("end", type_=Float)
    return union_all(
        *(
            select(*_SHOWN).where(
                at.flow == bindparam("flow"),
                at.span == span,
                at.last_time >= start,
                at.first_time <= end,
                # Not those whose span is not known: they may end at any time.
                *([at.last_time <= end + 2.0**span] if span != _UNKNOWN_SPAN else []),
            )
            for span in spans
        )
    )


def _conditions(wanted: ChunkFilter) -> list[ColumnElement[bool]]:
    at = history_chunks.c
    found: list[ColumnElement[bool]] = [at.flow == wanted.flow]
    if wanted.pipeline is not None:
        found.append(at.pipeline == wanted.pipeline)
    if wanted.since is not None:
        found.append(at.recorded_at >= wanted.since)
    if wanted.until is not None:
        found.append(at.recorded_at < wanted.until)
    if wanted.error_code is not None or wanted.status == "failed":
        # In so many words, no parameter: that is how the index of those that hold any is found.
        found.append(at.failed > literal_column("0"))
    if wanted.error_code is not None:
        code = _literally(wanted.error_code)
        found.append(or_(at.errors.is_(None), at.errors.like(f"%{code}%", escape="\\")))
    if wanted.event_type is not None and "[" not in wanted.event_type:
        glob = _literally(wanted.event_type).replace("*", "%").replace("?", "_")
        found.append(or_(at.types.is_(None), at.types.like(f"%{glob}%", escape="\\")))
    if wanted.status == "skipped":
        found.append(or_(at.skipped.is_(None), at.skipped > 0))
    if wanted.status == "completed":
        found.append(or_(at.skipped.is_(None), at.count > at.failed + at.skipped))
    return found


def _literally(text: str) -> str:
    """Return a text such that LIKE takes each of its characters for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
