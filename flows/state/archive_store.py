"""The rows of event archives: written with the checkpoint, found by time, forgotten by age and size.

A chunk holds what one batch brought, and ids grow in the order of archiving: within a source partition
that is the order of the source. Chunks of a window are found by their *span*, as history's are
(flows.state.chunk_store). What has been added up stands in a row per shard, so that nothing is counted
to find out what an archive holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from flows.state.archive_compaction import ArchiveCompaction
from flows.state.archive_queries import (
    ADD_CHUNK,
    CHUNK_COLUMNS,
    DAMAGED,
    EVERY,
    GIVEN_UP,
    HOLDING,
    MISSING,
    NOT_ARCHIVED,
    OLDEST,
    PAGE,
    ROWS,
    TIMES,
    TOTALS,
    WHOLE,
    ArchiveTotals,
    ChunkPlace,
    Extent,
    adding,
    chunk_row_of,
    extent_query,
    minus,
)
from flows.state.database import Database, transaction
from flows.state.queries import upsert_of
from flows.state.records import ArchiveChunk
from flows.state.rows import Row
from flows.state.tables import archive_chunks, archive_totals, leases

LONGEST = 4.0
"""Seconds that forgetting may take at once."""

_at = archive_chunks.c
_sum = archive_totals.c


class ArchiveStore:
    """The archives of a state store. All but `apart` belongs to the thread of its connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._add_totals = adding(upsert_of(database.dialect))

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
                "compacted_id": None,
            }
            for chunk in chunks
        ]
        return [
            (ADD_CHUNK, [chunk_row_of(flow, chunk) for chunk in chunks]),
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
                    row = chunk_row_of(flow, gap) | {"state": NOT_ARCHIVED}
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
                    connection.execute(self._add_totals, minus(flow, source, 0, 0, size))

        self._database.run(work)

    # --- finding ------------------------------------------------------------------------------

    def extent(self, flow: str, source: str, since: float, until: float) -> Extent:
        """Return what chunks there are of [since, until), in seconds."""
        found = self._rows(extent_query(), flow=flow, source=source, start=since, end=until)[0]
        if found[0] is None:
            return Extent()
        first, last, *added, first_time, last_time, split = found
        chunks, count, size = map(int, added)  # PostgreSQL adds big integers up to a Decimal
        return Extent(first, last, chunks, count, size, first_time, last_time, int(split))

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
            PAGE, flow=flow, source=source, start=since, end=until, after=after, last=last
        )
        return [ChunkPlace(*row) for row in rows]

    def every(self, flow: str, source: str, after: int) -> list[ChunkPlace]:
        """Return the next chunks behind the id `after`, whatever their times say."""
        return [
            ChunkPlace(*row) for row in self._rows(EVERY, flow=flow, source=source, after=after)
        ]

    def missing(self, flow: str, source: str, since: float, until: float) -> list[ChunkPlace]:
        """Return chunks of [since, until) that can't be read, and times without an archive."""
        rows = self._rows(MISSING, flow=flow, source=source, start=since, end=until)
        return [ChunkPlace(*row) for row in rows]

    def chunk(self, number: int) -> ArchiveChunk | None:
        """Return a chunk; None when it has been forgotten."""
        rows = self._rows(select(*CHUNK_COLUMNS).where(_at.id == bindparam("id")), id=number)
        if not rows:
            return None
        row = dict(rows[0]._mapping)  # noqa: SLF001 - its public name
        return ArchiveChunk(**row | {"digest": bytes(row["digest"]), "body": bytes(row["body"])})

    def was_put_together(self, flow: str, source: str, number: int) -> bool:
        """Whether a chunk that is not there any more is part of another one now."""
        return bool(self._rows(HOLDING, flow=flow, source=source, number=number))

    def compaction(self, flow: str, source: str) -> ArchiveCompaction:
        """Return what puts small chunks of a source together, on the same connection."""
        return ArchiveCompaction(self._database, flow, source)

    def totals(self, flow: str, source: str | None = None) -> list[ArchiveTotals]:
        """Return what each source's archive holds: those that ever held anything."""
        query = TOTALS if source is None else TOTALS.where(_sum.source == bindparam("source"))
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
                self._rows(OLDEST, flow=flow, source=name)[0][0],
            )
            for name, chunks, events, size, began, forgotten, until, off in rows
        ]

    def times(self, flow: str, source: str) -> tuple[float, float] | None:
        """Return the times of the first and the last event; reads an index from end to end."""
        first, last = self._rows(TIMES, flow=flow, source=source)[0]
        return None if first is None else (first, last)

    # --- forgetting ---------------------------------------------------------------------------

    def forget(self, flow: str, source: str, *, before: float | None, max_bytes: int | None) -> int:
        """Delete what was archived before a time, and the oldest of what is too much; return the chunks.

        Within LONGEST seconds: its thread has a lease to renew. What is left goes the next time.
        """
        forgotten, until = 0, time.monotonic() + LONGEST
        while before is not None and time.monotonic() < until:
            deleted = self._forget(flow, source, _at.archived_at < before, None)
            forgotten += deleted
            if deleted < ROWS:
                break
        while max_bytes is not None and time.monotonic() < until:
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
                    row = minus(
                        flow, source, len(real), sum(r[1] for r in real), sum(r[2] for r in real)
                    )
                    row["forgotten_id"] = max(each[0] for each in real)
                    row["forgotten_until"] = max(each[3] for each in real)
                    connection.execute(self._add_totals, row)
                return len(ids)

        return self._database.run(work)

    def _execute(self, statement: Any) -> None:
        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(statement)

        self._database.run(work)

    def _rows(self, query: Any, **values: Any) -> Sequence[Any]:
        return self._database.run(lambda connection: connection.execute(query, values).all())
