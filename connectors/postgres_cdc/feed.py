"""`Feed`: the thread that reads the server, from the snapshot's first row to the last change.

Each session reads what is left of the snapshot, then streams. A lost connection ends the session
and the next one takes up where this one was: what has been put into the queue stays there.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

import psycopg

from connectors.errors import FatalError, PenstockError
from connectors.postgres_cdc import catalog, pgoutput, slot
from connectors.postgres_cdc.catalog import ServerFacts
from connectors.postgres_cdc.connection import (
    Connection,
    connect,
    connect_error,
    one_line,
    take_bytes_as_they_are,
    verdict,
)
from connectors.postgres_cdc.parallel import read_in_parallel
from connectors.postgres_cdc.plan import DROP_HINT, Plan
from connectors.postgres_cdc.position import format_lsn
from connectors.postgres_cdc.progress import TextKey
from connectors.postgres_cdc.readahead import (
    Ended,
    Failed,
    ReadAhead,
    Rows,
    SnapshotStarted,
    StreamStarted,
    TableRead,
)
from connectors.postgres_cdc.settings import PostgresCdcSettings
from connectors.postgres_cdc.snapshot import Lines, SnapshotTable, begin, read_rows
from connectors.postgres_cdc.stream import Acknowledged, ConnectionLost, Stream
from connectors.postgres_cdc.types import TypeCatalog
from connectors.threads import watched

BACKOFF = (0.1, 10.0)
"""Seconds before the first reconnect, doubling up to the second figure."""

ACTIVE_TRIES = 10
"""How often a slot that another connection reads is tried, a second apart: after a crash the
server needs a while to notice that the old connection is gone."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ground:
    """What was found out before the feed starts."""

    settings: PostgresCdcSettings
    application: str
    facts: ServerFacts
    tables: Sequence[SnapshotTable]
    types: TypeCatalog
    keys: dict[int, Sequence[str]]
    """Relation oid → primary key; filled before a Relation message is handed over."""
    type_names: dict[tuple[int, int], str]
    """Type oid and modifier → name; filled likewise, where changes of columns become events."""
    confirmed: int
    """Where the slot was."""


class Feed:
    """Reads into `queue` on a thread of its own, until it is closed or a person has to act."""

    def __init__(
        self,
        ground: Ground,
        plan: Plan,
        queue: ReadAhead,
        acknowledged: Acknowledged,
        *,
        eager: bool,
    ) -> None:
        self._ground = ground
        self._settings = ground.settings
        self._progress = None if plan.progress is None else plan.progress.copy()
        if self._progress is not None:
            self._progress.kinds = {one.name: one.table.kinds or () for one in ground.tables}
        self._create = plan.create_slot
        self._drop = plan.drop_slot
        self._start = plan.start
        self._queue = queue
        self._acknowledged = acknowledged
        self._eager = eager
        self._confirmed = ground.confirmed
        self._announced = False
        self._backoff = BACKOFF[0]
        self._stop = threading.Event()
        self._waker, self._wake_end = socket.socketpair()
        self._waker.setblocking(False)
        # While there is always something to read, nobody takes what wakes: its sender must not wait.
        self._wake_end.setblocking(False)
        self._catalog: Connection | None = None
        self._busy: Connection | None = None
        """The connection that may block in a command, so that `close` can cancel it."""
        # A position within a transaction may count messages that nobody asks for any more.
        self._make_failover = False
        self._messages = bool(ground.settings.messages or plan.carried.get("messages"))
        self.status = ""
        self.wal_end = 0
        self._thread = threading.Thread(
            target=watched("reading the replication slot", self._run, self._fail),
            name="cdc-feed",
            daemon=True,
        )

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def wake(self) -> None:
        """Let the thread look at its duties now."""
        with suppress(OSError):  # full: it is awake; closed: it is gone
            self._wake_end.send(b"!")

    def show_messages(self) -> None:
        """Have the stream carry logical messages, from where it is: it is opened anew for that.

        StreamStarted says when it does.
        """
        self._messages = True
        self.wake()

    def close(self, timeout: float) -> None:
        """Stop reading and disconnect; waits at most `timeout` seconds."""
        self._stop.set()
        self.wake()
        busy = self._busy
        if busy is not None and self._thread.is_alive():
            try:
                busy.cancel_safe(timeout=timeout / 2)
            except psycopg.Error as error:
                _log.debug("cancelling the snapshot: %s", one_line(error))
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._waker.close()
        self._wake_end.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._session()
                    return
                except psycopg.Error as error:
                    if self._stop.is_set():
                        return
                    if verdict(error) == "fatal":
                        raise connect_error(error) from error
                    self._wait_to_reconnect(error)
                except (ConnectionLost, OSError) as error:
                    if self._stop.is_set():
                        return
                    self._wait_to_reconnect(error)
                finally:
                    self._disconnect()
        except PenstockError as error:
            self._fail(error)

    def _fail(self, error: PenstockError) -> None:
        self._queue.put(Failed(error))

    def _wait_to_reconnect(self, error: BaseException) -> None:
        self.status = f"reconnecting to PostgreSQL: {one_line(error)}"
        _log.warning("%s; next try in %.1f s", self.status, self._backoff)
        self._stop.wait(self._backoff)
        self._backoff = min(self._backoff * 2, BACKOFF[1])

    def _disconnect(self) -> None:
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    def _ask(self) -> Connection:
        """Return the connection for questions to the catalog, for the length of a session."""
        if self._catalog is None:
            self._catalog = self._connect()
        return self._catalog

    def _connect(self, *, replication: bool = False) -> Connection:
        return connect(self._settings.connection, self._ground.application, replication=replication)

    def _session(self) -> None:
        if self._progress is not None and not self._snapshot_done():
            self._snapshot()
            if self._stop.is_set():
                return
        if self._settings.snapshot == "only":
            self._queue.put(Ended())
            return
        if self._create:
            with closing(self._connect(replication=True)) as connection:
                self._create_slot(connection)
        self._stream()

    # ---- the snapshot ----

    def _snapshot_done(self) -> bool:
        progress = self._progress
        assert progress is not None  # noqa: S101 - the caller looked
        return not self._create and all(
            progress.complete(source.name) for source in self._ground.tables
        )

    def _create_slot(self, connection: Connection) -> slot.CreatedSlot | None:
        """Make the slot; None when an earlier try has made it, though its answer was lost."""
        name = self._settings.slot_name
        found = catalog.read_slot(self._ask(), name)
        if found is not None and self._drop:
            slot.drop_slot(self._ask(), name)
            found = None
        self._drop = False
        if found is not None:
            self._started(found.confirmed_lsn)
            return None
        created = self._create_any(
            connection, name, temporary=False, failover=self._settings.failover
        )
        self._started(created.lsn)
        _log.info("created the replication slot %s at %s", name, format_lsn(created.lsn))
        return created

    def _started(self, lsn: int) -> None:
        self._start = self._confirmed = lsn
        self._create = False
        if self._progress is not None:
            self._progress.start = lsn
            self._queue.put(SnapshotStarted(lsn))

    def _create_any(
        self, connection: Connection, name: str, *, temporary: bool, failover: bool = False
    ) -> slot.CreatedSlot:
        self.status = "creating a replication slot: it waits for transactions that run now to end"
        if self._ground.facts.in_recovery:
            self.status += "; on a standby also for SELECT pg_log_standby_snapshot() on the primary"
        self._busy = connection
        try:
            return slot.create_slot(connection, name, temporary=temporary, failover=failover)
        except psycopg.Error as error:
            if error.sqlstate == "53400":
                raise FatalError(
                    f"the server has no replication slot free for {name}.",
                    code="slots_exhausted",
                    hint="Drop one that nobody needs (SELECT * FROM pg_replication_slots), or raise "
                    "max_replication_slots. Resuming a snapshot takes a second one for a while.",
                    slot=name,
                ) from error
            raise
        finally:
            self._busy = None
            self.status = ""

    def _snapshot(self) -> None:
        """Read what is left of the tables, in a snapshot made now."""
        progress = self._progress
        assert progress is not None  # noqa: S101 - the caller looked
        with closing(self._connect()) as reading:
            if self._settings.snapshot == "only":
                begin(reading, None)
                lsn = catalog.read_facts(reading).wal_lsn
            else:
                with closing(self._connect(replication=True)) as exporting:
                    created = self._create_slot(exporting) if self._create else None
                    if created is None:
                        # The slot is where it was; this one tells where the new snapshot is.
                        name = f"{self._settings.slot_name[:40]}_tmp_{os.urandom(4).hex()}"
                        created = self._create_any(exporting, name, temporary=True)
                    begin(reading, created.snapshot)
                    lsn = created.lsn
            take_bytes_as_they_are(reading, utf8=self._ground.facts.utf8)
            for source in self._ground.tables:
                if not progress.complete(source.name) and not self._stop.is_set():
                    self._read_table(reading, source, lsn)

    def _read_table(self, reading: Connection, source: SnapshotTable, lsn: int) -> None:
        progress = self._progress
        assert progress is not None  # noqa: S101 - the caller looked
        table = source.table
        self.status = f"reading the rows of {source.name}"
        self._busy = reading
        after = progress.last_key(source.name) if table.kinds is not None else None
        try:
            with closing(self._rows(reading, source, after)) as rows:
                for lines, size in rows:
                    self._queue.put(Rows(table, lsn, lines, size))
                    if table.kinds is not None:
                        values = table.key_values(table.codec.split_line(lines[-1]))
                        progress.advance(source.name, lsn, tuple(v.decode() for v in values))
                    while not self._queue.wait_for_room(1.0):
                        if self._stop.is_set():
                            return
        finally:
            self._busy = None
            self.status = ""
        if not self._stop.is_set():
            progress.advance(source.name, lsn, None)
            self._queue.put(TableRead(source.name, lsn))
            self._backoff = BACKOFF[0]

    def _rows(
        self, reading: Connection, source: SnapshotTable, after: TextKey | None
    ) -> Generator[Lines, None, None]:
        """Return a table's rows, over as many connections as the settings say."""
        connections = self._settings.snapshot_parallelism
        if connections == 1:
            return read_rows(reading, source, after, self._stop.is_set)
        return read_in_parallel(
            reading, self._another, source, after, self._stop.is_set, connections=connections
        )

    def _another(self) -> Connection:
        """Open one more connection that rows are read over."""
        connection = self._connect()
        try:
            take_bytes_as_they_are(connection, utf8=self._ground.facts.utf8)
        except BaseException:
            connection.close()
            raise
        return connection

    # ---- the stream ----

    def _check(self) -> None:
        """Refuse to stream from what is no longer what the flow was reading."""
        name = self._settings.slot_name
        asked = self._ask()
        found = catalog.read_slot(asked, name)
        if found is None:
            raise FatalError(
                f"the replication slot {name} was dropped while the flow was reading it.",
                code="slot_missing",
                hint="on_slot_missing: create goes on from now without what it had not delivered; "
                "snapshot: when_needed reads all rows again.",
                slot=name,
            )
        if found.lost:
            raise FatalError(
                f"the replication slot {name} is invalidated ({found.lost}): "
                "changes it had not delivered are gone.",
                code="slot_invalidated",
                hint=DROP_HINT.format(slot=name),
                slot=name,
            )
        self._make_failover = self._settings.failover and not found.failover
        ours = max(self._acknowledged.lsn, self._confirmed, self._start)
        if found.confirmed_lsn > ours:
            raise FatalError(
                f"the replication slot {name} is at {format_lsn(found.confirmed_lsn)}, past what "
                f"this flow has acknowledged ({format_lsn(ours)}): changes in between may be gone.",
                code="slot_ahead",
                hint="It was read by something else or made anew while the flow was running; "
                "see on_position_mismatch.",
                slot=name,
            )
        publication = self._settings.publication_name
        # Since version 18 a publication that is gone is a warning, and its changes are left out.
        if catalog.read_publication(asked, publication, self._ground.facts.version) is None:
            raise FatalError(
                f"the publication {publication} was dropped while the flow was reading it.",
                code="publication_missing",
                hint="Create it again; changes since then are not in the slot.",
                publication=publication,
            )

    def _open_stream(self, *, messages: bool) -> Stream:
        """Start replication; wait for a slot that another connection still holds."""
        facts = self._ground.facts
        timeout = facts.wal_sender_timeout or 60.0
        interval = 0.1 if self._eager else min(10.0, timeout / 3)
        name = self._settings.slot_name
        for left in range(ACTIVE_TRIES - 1, -1, -1):
            connection = self._connect(replication=True)
            try:
                take_bytes_as_they_are(connection, utf8=facts.utf8)
                if self._make_failover:
                    slot.make_failover_slot(connection, name)
                    self._make_failover = False
                return Stream(
                    connection,
                    slot=name,
                    publication=self._settings.publication_name,
                    start=max(self._start, self._acknowledged.lsn),
                    acknowledged=self._acknowledged,
                    status_interval=interval,
                    silence=max(30.0, timeout),
                    eager=self._eager,
                    messages=messages,
                )
            except psycopg.Error as error:
                connection.close()
                if error.sqlstate != "55006":
                    raise
                found = catalog.read_slot(self._ask(), name)
                holder = "" if found is None else f" (server process {found.active_pid})"
                if left == 0:
                    raise FatalError(
                        f"the replication slot {name} is being read by another connection{holder}.",
                        code="slot_active",
                        hint="Stop the other reader or give this flow a slot of its own: a slot "
                        "that two share is split between them. SELECT * FROM pg_stat_replication "
                        "shows who it is.",
                        slot=name,
                    ) from error
                self.status = f"waiting for the slot {name}: another connection{holder} reads it"
                if self._stop.wait(1.0):
                    raise ConnectionLost("closed") from error
            except BaseException:
                connection.close()
                raise
        raise AssertionError("unreachable")

    def _stream(self) -> None:
        while not self._stop.is_set():
            self._check()
            messages = self._messages
            stream = self._open_stream(messages=messages)
            try:
                self.status = ""
                self._queue.put(StreamStarted(self._start, messages=messages))

                def over(messages: bool = messages) -> bool:
                    return self._stop.is_set() or self._messages != messages

                stream.run(self._queue, self._waker, over, self._described)
            finally:
                self._backoff = BACKOFF[0]
                self.wal_end = max(self.wal_end, stream.wal_end)
                stream.close()

    def _described(self, message: bytes) -> None:
        """Find out what a Relation message leaves open, before the message is handed over."""
        relation = pgoutput.decode_relation(message)
        wanted = {table.name for table in self._settings.tables}
        if f"{relation.schema}.{relation.table}" not in wanted:
            return
        types = self._ground.types
        missing = types.missing(column.type_oid for column in relation.columns)
        if missing:
            catalog.add_types(self._ask(), types, missing)
        if self._settings.schema_changes:
            named = self._ground.type_names
            pairs = [(column.type_oid, column.type_modifier) for column in relation.columns]
            unnamed = [pair for pair in pairs if pair not in named]
            if unnamed:
                named.update(catalog.read_type_names(self._ask(), unnamed))
        if relation.identity in ("f", "n"):
            found = catalog.read_table_by_oid(self._ask(), relation.oid)
            if found is not None:
                self._ground.keys[relation.oid] = found.key
