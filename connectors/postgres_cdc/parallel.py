"""Read a table's rows over several connections, in one snapshot; they go out in key order all the same.

The table is cut into *segments* of a few megabytes, by walking ahead in the key's index. Each
connection reads one segment at a time, and holds it until those before it have gone out:

    connection 1   segment 1 ──────► out     segment 4 ───
    connection 2   segment 2 ──────── held ► out   segment 5
    connection 3   segment 3 ──────── held ──────► out

So what the server and the network do is parallel, while positions, and all that resuming rests on
(connectors.postgres_cdc.progress), are those of one connection. Ranges of ctid would need no walk,
but a snapshot that is interrupted goes on in another one, by when rows have moved between pages.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from connectors.postgres_cdc.connection import Connection, one_line
from connectors.postgres_cdc.progress import TextKey
from connectors.postgres_cdc.snapshot import Lines, SnapshotTable, begin, read_rows, walk_statement

SEGMENT = 2 << 20
"""Bytes a segment is meant to have."""

HELD = 2 * SEGMENT
"""Bytes of a segment that a connection holds at most, before it waits for its turn."""

FIRST_ROWS, MOST_ROWS = 5_000, 100_000
"""Rows of the first segments, when it is not known how large a row is, and of any. A table that has
no more than the first is read over one connection."""

LOOK = 0.2
"""Seconds between looks at whether anybody still wants the rows."""

LEAVE = 0.05
"""Seconds that a thread is given to end by itself."""

CANCEL = 1.0
"""Seconds that cancelling a connection's query may take."""

JOIN = 2.0
"""Seconds to wait for a thread whose query was cancelled."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Segment:
    """The rows after the key `after` up to the key `upto` (None: to the table's end)."""

    after: TextKey | None
    upto: TextKey | None
    rows: int
    """How many they are before `where`."""
    held: deque[Lines] = field(default_factory=deque)
    size: int = 0
    """Bytes held."""
    through: int = 0
    """Bytes read."""
    read: bool = False
    """Whether all of it was read."""
    gone: bool = False
    """Whether all of it has gone out."""


class Segments:
    """Hands segments to the threads that read, and their rows, in order, to the one that takes them."""

    def __init__(self, walk: Callable[[Connection, TextKey | None, int], TextKey | None]) -> None:
        """`walk`: (connection, key, rows) → the key so many rows on; None: the table ends before."""
        self._walk = walk
        self._walking = threading.Lock()
        self._changed = threading.Condition()
        self._order: deque[Segment] = deque()
        self._after: TextKey | None = None
        self._rows = FIRST_ROWS
        self._cut_all = False
        self._failure: Exception | None = None
        self.closed = False

    def begin(self, after: TextKey | None, upto: TextKey, rows: int) -> None:
        """Say where the table's rest begins, and where its first segment ends."""
        self._order.append(Segment(after, upto, rows))
        self._after = upto

    # ---- for the threads that read ----

    def next(self, connection: Connection, first: Segment | None = None) -> Segment | None:
        """Return the next segment to read; None when there is none. Raises psycopg.Error."""
        if first is not None:
            return first
        with self._walking:
            if self._cut_all or self.closed:
                return None
            rows = self._rows
            upto = self._walk(connection, self._after, rows)
            segment = Segment(self._after, upto, rows)
            with self._changed:
                self._order.append(segment)
                self._after, self._cut_all = upto, upto is None
            return segment

    def add(self, segment: Segment, lines: Lines) -> bool:
        """Lay down rows of a segment once there is room; False when nobody wants them any more."""
        with self._changed:
            self._changed.wait_for(lambda: segment.size < HELD or self.closed)
            segment.held.append(lines)
            segment.size += lines[1]
            segment.through += lines[1]
            self._changed.notify_all()
            return not self.closed

    def done(self, segment: Segment) -> bool:
        """Note that a segment was read, and wait until it has gone out; False as in `add`."""
        with self._changed:
            segment.read = True
            if segment.through:
                fitting = segment.rows * SEGMENT // segment.through
                self._rows = max(1, min(MOST_ROWS, fitting))
            else:
                self._rows = min(MOST_ROWS, self._rows * 2)
            self._changed.notify_all()
            self._changed.wait_for(lambda: segment.gone or self.closed)
            return not self.closed

    def fail(self, error: Exception) -> None:
        """Note why a thread can't read on."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    # ---- for the one that takes ----

    def first(self) -> Segment:
        """Return the first segment, as `begin` has cut it."""
        return self._order[0]

    def take(self, stopped: Callable[[], bool]) -> Iterator[Lines]:
        """Yield rows in key order, to the end or until `stopped`. Raises what a thread met with."""
        while not stopped():
            with self._changed:
                self._changed.wait_for(self._something, LOOK)
                if self._failure is not None:
                    raise self._failure
                while self._order and self._order[0].read and not self._order[0].held:
                    self._order.popleft().gone = True
                    self._changed.notify_all()
                if not self._order:
                    if self._cut_all:
                        return
                    continue
                head = self._order[0]
                if not head.held:
                    continue
                lines = head.held.popleft()
                head.size -= lines[1]
                self._changed.notify_all()
            yield lines

    def _something(self) -> bool:
        if self._failure is not None or not self._order:
            return self._failure is not None or self._cut_all
        head = self._order[0]
        return bool(head.held) or head.read

    def close(self) -> None:
        """Send the threads home."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


def read_in_parallel(
    reading: Connection,
    another: Callable[[], Connection],
    source: SnapshotTable,
    after: TextKey | None,
    stopped: Callable[[], bool],
    *,
    connections: int,
) -> Generator[Lines, None, None]:
    """Yield what `read_rows` does, read over `reading` and up to `connections` - 1 others.

    `another` opens one. A table that is small, or whose key no index has in its order, is read over
    `reading` alone. Close the generator to have done with the connections. Raises psycopg.Error.
    """
    upto = None
    if source.table.kinds is not None and _in_order(reading, source):
        upto = _walked(reading, source, after, FIRST_ROWS)
    others = [] if upto is None else _others(reading, another, source, connections - 1)
    if upto is None or not others:
        _plan_freely(reading)
        yield from read_rows(reading, source, after, stopped)
        return
    segments = Segments(lambda one, key, rows: _walked(one, source, key, rows))
    segments.begin(after, upto, FIRST_ROWS)
    everyone = [reading, *others]
    threads = [
        threading.Thread(
            target=_read,
            args=(segments, one, source, segments.first() if one is reading else None),
            name=f"cdc-copy-{number}",
            daemon=True,
        )
        for number, one in enumerate(everyone)
    ]
    try:
        for thread in threads:
            thread.start()
        yield from segments.take(stopped)
    finally:
        _end(segments, threads, everyone)
        for one in others:
            one.close()
    if not stopped():
        _plan_freely(reading)


def _read(
    segments: Segments, connection: Connection, source: SnapshotTable, first: Segment | None
) -> None:
    """Read segment after segment, on a thread of its own."""
    try:
        while (segment := segments.next(connection, first)) is not None:
            first = None
            rows = read_rows(
                connection, source, segment.after, lambda: segments.closed, segment.upto
            )
            with closing(rows):
                for lines in rows:
                    if not segments.add(segment, lines):
                        return
            if not segments.done(segment):
                return
    except Exception as error:  # noqa: BLE001 - raised again by the one that takes
        segments.fail(error)


def _end(
    segments: Segments, threads: Sequence[threading.Thread], connections: Sequence[Connection]
) -> None:
    """Have done with the threads; those that still read are cancelled."""
    segments.close()
    for thread, connection in zip(threads, connections, strict=True):
        if thread.is_alive():
            thread.join(LEAVE)
        if thread.is_alive():
            try:
                connection.cancel_safe(timeout=CANCEL)
            except psycopg.Error as error:
                _log.debug("cancelling a part of the snapshot: %s", one_line(error))
    for thread in threads:
        if thread.is_alive():
            thread.join(JOIN)


_OTHER_PLANS = ("enable_seqscan", "enable_sort", "enable_incremental_sort")
"""What is switched off so that the server reads by an index wherever it can."""


def _plan_freely(connection: Connection) -> None:
    for name in _OTHER_PLANS:
        connection.execute(sql.SQL("RESET {}").format(sql.Identifier(name)))


def _in_order(connection: Connection, source: SnapshotTable) -> bool:
    """Whether an index gives the table's rows in the order of the key, as the server plans it.

    From here on it plans with that index. It also takes all the locks there are to take.
    """
    for name in _OTHER_PLANS:
        connection.execute(sql.SQL("SET {} = off").format(sql.Identifier(name)))
    walk = walk_statement(source, None, 1)
    row = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(walk)).fetchone()
    assert row is not None  # noqa: S101 - EXPLAIN answers with one row
    return not any(
        kind.endswith(("Sort", "Seq Scan")) for plan in row[0] for kind in _kinds(plan["Plan"])
    )


def _kinds(node: Mapping[str, Any]) -> Iterator[str]:
    yield node["Node Type"]
    for child in node.get("Plans", ()):
        yield from _kinds(child)


def _walked(
    connection: Connection, source: SnapshotTable, after: TextKey | None, rows: int
) -> TextKey | None:
    row = connection.execute(walk_statement(source, after, rows)).fetchone()
    if row is None:
        return None
    # Where text is handed over as the server has it (SQL_ASCII), it comes as bytes.
    return tuple(value.decode() if isinstance(value, bytes) else value for value in row)


def _others(
    reading: Connection, another: Callable[[], Connection], source: SnapshotTable, wanted: int
) -> list[Connection]:
    """Open connections in the snapshot of `reading`, as many as there are to be had."""
    row = reading.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    opened: list[Connection] = []
    try:
        while len(opened) < wanted:
            opened.append(_joined(another(), row[0], source))
    except psycopg.Error as error:
        _log.warning(
            "the rows of %s are read over %d of %d connections: %s",
            source.name,
            len(opened) + 1,
            wanted + 1,
            one_line(error),
        )
    except BaseException:
        for one in opened:
            one.close()
        raise
    return opened


def _joined(connection: Connection, snapshot: str, source: SnapshotTable) -> Connection:
    """Bring a connection into the snapshot, with the table's locks. Raises psycopg.Error.

    One who waits to lock the table waits for us, and whoever asks after him waits for him: without
    the limit, we for ourselves.
    """
    try:
        begin(connection, snapshot)
        connection.execute("SET lock_timeout = '1s'")
        _in_order(connection, source)
        connection.execute("RESET lock_timeout")
    except BaseException:
        connection.close()
        raise
    return connection
