"""Which snapshot is read while the stream goes on: those asked for, and tables that are new.

One at a time: tables that the flow has not read before come first, then what was asked for, in
turn. All methods run on the dataflow's thread, but those of connectors.contracts.Snapshotting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from connectors.contracts import SnapshotReport, SnapshotRequest
from connectors.errors import FatalError, PenstockError
from connectors.postgres_cdc.assemble import Assembler
from connectors.postgres_cdc.chunks import ChunkReader
from connectors.postgres_cdc.feed import Feed
from connectors.postgres_cdc.incremental import Copy, Desk, Windows

StartReading = Callable[[Desk], ChunkReader]


class Copies:
    """Begins, holds and ends snapshots of one reader, and reports on them."""

    def __init__(self, feed: Feed, tables: Sequence[str], start_reading: StartReading) -> None:
        """`tables`: all that the source reads."""
        self._feed = feed
        self._tables = tuple(tables)
        self._start_reading = start_reading
        self._assembler: Assembler | None = None
        self._reading: ChunkReader | None = None
        self._desk: Desk | None = None
        self._wanted: Sequence[SnapshotRequest] | None = None
        self._due = False
        self._refused: dict[int, PenstockError] = {}
        self._durable = 0
        self._listening = False

    @property
    def busy(self) -> bool:
        """Whether rows are being read."""
        return self._reading is not None

    @property
    def status(self) -> str:
        """Return what it does or waits for, or ""."""
        reading = self._reading
        return "" if reading is None else reading.status

    def stream_started(self, assembler: Assembler, *, messages: bool) -> None:
        """Note that the stream begins, or begins anew; `messages`: it shows watermarks."""
        self._assembler = assembler
        self._listening = messages
        self._due = True
        if messages and self._desk is not None and assembler.copy is not None:
            self._desk.listen(assembler.copy)

    def look(self) -> None:
        """Do what has come up. Two comparisons where nothing has; raises PenstockError."""
        if not self._due and self._reading is None:
            return
        assembler = self._assembler
        if assembler is None:
            return
        if self._desk is not None and self._desk.failure is not None:
            self._failed(assembler, self._desk.failure)
        if self._reading is not None and assembler.copy is None:
            self._stop(assembler)
            self._due = True
        if self._due:
            self._due = False
            self._steer(assembler)

    def _steer(self, assembler: Assembler) -> None:
        wanted = {one.id: one for one in self._wanted or ()}
        copy = assembler.copy
        if copy is not None and copy.id and self._wanted is not None and copy.id not in wanted:
            self._stop(assembler)
            assembler.end_copy()
            copy = None
        if copy is None:
            copy = self._next(assembler)
        goes_on = copy is not None and (
            not copy.id or (copy.id in wanted and not wanted[copy.id].paused)
        )
        if not goes_on:
            if copy is not None and assembler.copy is None:
                return  # it waits: nothing of it has begun
            self._stop(assembler)
        elif copy is not None and self._reading is None:
            self._begin(assembler, copy)

    def _next(self, assembler: Assembler) -> Copy | None:
        new = tuple(name for name in self._tables if name not in assembler.known)
        if new:
            return Copy(0, new)
        wanted = [one for one in self._wanted or () if one.id > assembler.copied]
        if not wanted or any(one.id in self._refused for one in wanted):
            return None  # one that was refused is to be struck from the list first
        first = wanted[0]
        unknown = sorted(set(first.tables) - set(self._tables))
        if unknown:
            self._refused[first.id] = FatalError(
                f"the source doesn't read {', '.join(unknown)}.",
                code="snapshot_unknown_table",
                hint=f"It reads {', '.join(self._tables)}.",
            )
            return None
        return Copy(first.id, first.tables or self._tables)

    def _begin(self, assembler: Assembler, copy: Copy) -> None:
        self._desk = Desk(os.urandom(8).hex(), copy)
        assembler.begin_copy(copy, Windows(self._desk))
        self._reading = self._start_reading(self._desk)
        if self._listening:
            self._desk.listen(copy)
        else:
            self._feed.show_messages()

    def _stop(self, assembler: Assembler) -> None:
        assembler.hold_copy()
        if self._reading is not None:
            self._reading.close(2.0)
        self._reading = self._desk = None

    def _failed(self, assembler: Assembler, error: PenstockError) -> None:
        copy = assembler.copy
        self._stop(assembler)
        if copy is None:
            return
        if not copy.id:
            raise error
        self._refused[copy.id] = error
        assembler.drop_copy()
        self._due = True

    def close(self) -> None:
        """Stop reading rows."""
        if self._reading is not None:
            self._reading.close(2.0)

    # ---- for requests, on any thread ----

    def want(self, requests: Sequence[SnapshotRequest]) -> None:
        """See connectors.contracts.Snapshotting.want_snapshots."""
        if self._wanted is None or list(self._wanted) != list(requests):
            self._wanted = list(requests)
            self._due = True

    def settled(self, copied: int) -> None:
        """Note that snapshots up to this one are through, by a checkpoint that is durable."""
        self._durable = max(self._durable, copied)

    def reports(self) -> list[SnapshotReport]:
        """See connectors.contracts.Snapshotting.snapshot_reports."""
        found = []
        copy = None if self._assembler is None else self._assembler.copy
        for one in self._wanted or ():
            if one.id in self._refused:
                found.append(SnapshotReport(one.id, error=self._refused[one.id]))
            elif one.id <= self._durable:
                ended = None if self._assembler is None else self._assembler.ended
                rows = ended.rows if ended is not None and ended.id == one.id else None
                found.append(SnapshotReport(one.id, rows=rows, done=True))
            elif copy is not None and copy.id == one.id:
                found.append(SnapshotReport(one.id, copy.left[0] if copy.left else "", copy.rows))
        return found
