"""The thread that reads a table in chunks, between watermarks, while the stream goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing

import psycopg

from connectors.errors import FatalError, PenstockError
from connectors.postgres_cdc.connection import (
    Connection,
    connect,
    connect_error,
    one_line,
    take_bytes_as_they_are,
    verdict,
)
from connectors.postgres_cdc.incremental import WATERMARK, Copy, CopyChunk, Desk, Seen
from connectors.postgres_cdc.progress import TextKey
from connectors.postgres_cdc.snapshot import SnapshotTable, begin, copy_statement
from connectors.threads import watched

ROWS, FIRST_ROWS = 10_000, 1_000
"""Rows a chunk has at most, and the first has: how large they are is not known then."""

SIZE = 4 << 20
"""Bytes a chunk is meant to have at most; ROWS shrinks to that."""

MOST = 4 * SIZE
"""Bytes at which the reading of a chunk is broken off."""

CANCEL = 10.0
"""Seconds that breaking it off may take."""

BACKOFF = (0.1, 10.0)
"""Seconds before the first reconnect, doubling up to the second figure."""

LOOK = 0.2
"""Seconds between looks while it waits."""

_EMIT = "SELECT pg_catalog.pg_logical_emit_message(true, %s, %s)"

Describe = Callable[[Connection, str], SnapshotTable]
"""(connection, `schema.table`) → how it is read now. Raises FatalError."""

_log = logging.getLogger(__name__)


class ChunkReader:
    """Reads what `desk` says is left, on a thread of its own, until that is all or it is closed."""

    def __init__(
        self, connection: str, application: str, desk: Desk, describe: Describe, *, utf8: bool
    ) -> None:
        self._conninfo = connection
        self._application = application
        self._desk = desk
        self._describe = describe
        self._utf8 = utf8
        self._rows = FIRST_ROWS
        self._backoff = BACKOFF[0]
        self._waited = False
        self._stop = threading.Event()
        self._busy: Connection | None = None
        self.status = ""
        self._thread = threading.Thread(
            target=watched("reading rows while streaming", self._run, self._fail),
            name="cdc-chunks",
            daemon=True,
        )

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Stop; waits at most `timeout` seconds."""
        self._stop.set()
        self._desk.close()
        busy = self._busy
        if busy is not None and self._thread.is_alive():
            try:
                busy.cancel_safe(timeout=timeout / 2)
            except psycopg.Error as error:
                _log.debug("cancelling a chunk: %s", one_line(error))
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        desk = self._desk
        try:
            while not desk.closed:
                try:
                    if self._session():
                        return
                except (psycopg.Error, OSError) as error:
                    if desk.closed:
                        return
                    if isinstance(error, psycopg.Error) and verdict(error) == "fatal":
                        raise connect_error(error) from error
                    self.status = f"reconnecting to PostgreSQL: {one_line(error)}"
                    self._stop.wait(self._backoff)
                    self._backoff = min(self._backoff * 2, BACKOFF[1])
        except PenstockError as error:
            self._fail(error)
        finally:
            self.status = ""

    def _fail(self, error: PenstockError) -> None:
        self._desk.failure = error

    def _session(self) -> bool:
        """Read with one connection; return whether everything was read, or nobody asks any more."""
        desk = self._desk
        with closing(connect(self._conninfo, self._application)) as connection:
            take_bytes_as_they_are(connection, utf8=self._utf8)
            # A watermark is of use once it is in the WAL here, whatever standbys have of it.
            connection.execute("SET synchronous_commit TO local")
            self._busy = connection
            try:
                while not desk.closed:
                    begun = desk.begin(LOOK)
                    if begun is None:
                        continue
                    if not self._waited and not self._wait_for_running(connection):
                        return True
                    epoch, copy = begun
                    if self._read_on(connection, epoch, copy):
                        return True
            finally:
                self._busy = None
        return True

    def _wait_for_running(self, connection: Connection) -> bool:
        """Wait until transactions that run now have ended; False when closed before.

        One of them may have its commit in the WAL, and in the stream, from before the stream began
        to note them, without being visible yet.
        """
        # A snapshot's xmax may be below transactions that run: it is behind the last that ended.
        row = connection.execute("SELECT pg_catalog.pg_current_xact_id()::text").fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        newer = int(row[0])
        while True:
            self._desk.seen = seen = _seen(connection)
            if seen.low >= newer:
                self._waited = True
                return True
            self.status = (
                "reading rows while streaming waits for transactions that ran when it began"
            )
            if self._desk.closed or self._stop.wait(LOOK):
                return False

    def _read_on(self, connection: Connection, epoch: int, copy: Copy) -> bool:
        """Read chunk after chunk; True at the end, False when `begin` is to be asked again."""
        desk = self._desk
        left, after = list(copy.left), copy.after
        while left:
            self.status = f"reading the rows of {left[0]} while streaming"
            name = desk.announce(epoch, left[0])
            if name is None:
                return False
            connection.execute(_EMIT, (WATERMARK, f"{name}:low"))
            chunk = self._chunk(connection, left[0], after)
            if not desk.offer(epoch, chunk):
                return False
            connection.execute(_EMIT, (WATERMARK, f"{name}:high"))
            self._backoff = BACKOFF[0]
            while (taken := desk.taken(epoch, LOOK)) is None:
                pass
            if not taken:
                return False
            after = chunk.last_key if chunk.last_key is not None else after
            if chunk.ends:
                left.pop(0)
                after = None
        # The last chunk is taken, but not handed over: a stream that begins anew asks for it again.
        while not desk.closed:
            begun = desk.begin(LOOK)
            if begun is not None and begun[0] != epoch:
                return False
            self._stop.wait(LOOK)
        return True

    def _chunk(self, connection: Connection, name: str, after: TextKey | None) -> CopyChunk:
        source = self._describe(connection, name)
        table = source.table
        if table.kinds is None:
            raise needs_key(name)
        begin(connection, None)
        try:
            seen = _seen(connection)
            lines: list[bytes] = []
            size = 0
            cut = False
            limit = self._rows
            statement = copy_statement(source, after, limit=limit)
            try:
                with connection.cursor() as cursor, cursor.copy(statement) as copy:
                    for data in copy:
                        if cut:
                            continue  # what was under way when it was cancelled
                        line = bytes(data)
                        lines.append(line)
                        size += len(line)
                        if size >= MOST:
                            cut = True
                            connection.cancel_safe(timeout=CANCEL)
            except psycopg.errors.QueryCanceled:
                if not cut:
                    raise
        finally:
            connection.execute("ROLLBACK")
        if lines:
            self._rows = max(1, min(ROWS, len(lines) * SIZE // max(1, size)))
        return CopyChunk(
            table,
            lines,
            seen,
            table.text_key(lines[-1]) if lines else None,
            ends=not cut and len(lines) < limit,
        )


def _seen(connection: Connection) -> Seen:
    row = connection.execute("SELECT pg_catalog.pg_current_snapshot()::text").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return Seen.parse(row[0])


def needs_key(name: str) -> FatalError:
    """Return the error for a table that can't be read in chunks."""
    return FatalError(
        f"{name} can't be read while streaming: that takes a key of integers, text or uuid, by "
        "which it is read in parts.",
        code="snapshot_needs_key",
        hint="Give it such a primary key; or give the source module another name and slot, whose "
        "initial snapshot reads any table.",
        table=name,
    )


def on_standby(slot: str) -> FatalError:
    """Return the error for a server that takes no messages into its WAL."""
    return FatalError(
        "rows can't be read while streaming from a standby: that writes messages to the WAL.",
        code="snapshot_on_standby",
        hint="Let `connection` lead to the primary; or give the source module another name and "
        "slot, whose initial snapshot is read from the standby.",
        slot=slot,
    )
