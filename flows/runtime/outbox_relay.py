"""Publishes what waits in an outbox: one relay per table and worker, on a thread of its own.

    lock lanes ── read their first rows ── deliver ── delete what was confirmed ── unlock
                                              └─ refused for good: keep as dead letters, delete

Workers share an outbox by lanes: who has a lane's lock publishes its rows, in order, so none is
overtaken. The lock ends with its connection. A row that its sink does not take just now waits, and those of
its turn behind it (`outbox_order.py`); others go on. A crash before the rows are deleted publishes them again,
with the same event ids; nothing else repeats any.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import psycopg
import structlog

from connectors.contracts import Attribute, Outgoing, Sink
from connectors.errors import FatalError, PenstockError, RetryableError
from connectors.failpoints import fail_point
from connectors.threads import watched
from flows.runtime.backoff import Backoff
from flows.runtime.halt import Halt
from flows.runtime.outbox_letters import OutboxLetters, Refused
from flows.runtime.outbox_order import FIRST_DELAY, LONGEST_DELAY, Pacing, Said, groups_of
from transforms.steps.db_calls import Asking
from transforms.steps.db_errors import statement_error
from transforms.steps.db_pool import Connection
from transforms.steps.db_postgres import PostgresDatabase
from transforms.steps.db_statements import parse_statement
from transforms.steps.outbox_table import OutboxTable, WaitingRow

log = structlog.get_logger("penstock.worker")

REFUSED: Final = "outbox_refused"
"""The code of the warning: the dead letter has the sink's own."""

MOST: Final = 1_000
"""Rows that are read and delivered at once."""

LOOK_EVERY: Final = 1.0
"""Seconds between two looks when nobody says that something was written: by another, or before."""

COUNT_EVERY, _SHARE = 5.0, 0.01
"""Seconds between two counts at the least, and the part of the thread's time they may take."""

PATIENCE: Final = 5.0
"""Seconds that a drain waits for what is left: it is safe where it is."""

_TIMEOUT: Final = 30.0


class OutboxRelay:
    """The relay of one table, for the sinks that it opens itself.

    `wake`, `status`, `depths` may be used from any thread; the sinks belong to its own.
    """

    def __init__(
        self,
        database: str,
        table: OutboxTable,
        sinks: Mapping[str, Sink],
        halt: Halt,
        *,
        letters: OutboxLetters,
        counts: Collection[str],
    ) -> None:
        """`sinks` are open. `counts`: the pipelines of which it tells how much waits.

        `letters` keep what is refused, and are closed with it.
        """
        self._database = PostgresDatabase(database, _ASKING, table=table)
        self._table = table
        self.sinks = sinks
        self._halt = halt
        self._letters = letters
        self._counts = counts
        self.status = ""
        """What it waits for, or ""; read by the reporter."""
        self.away: dict[str, str] = {}
        """Sink → what is wrong with it: it took nothing when it was last asked."""
        self.depths: dict[str, int] = {}
        """Pipeline → what waited at the last count."""
        self._pacing = Pacing(sinks)
        self._next_count = 0.0
        self._connection: Connection | None = None
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._drained = threading.Event()
        self._drains = False
        self._thread = threading.Thread(
            target=watched("the relay of an outbox", self._run, halt.fail),
            name="outbox-relay",
            daemon=True,
        )

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def wake(self) -> None:
        """Say that rows have been written."""
        self._woken.set()

    def drain(self) -> None:
        """Publish what is left, however long it takes; when asked to stop, for at most 5 s."""
        self._drains = True
        self._woken.set()
        deadline: float | None = None
        while self._thread.is_alive() and not self._halt.error:
            if self._drained.wait(0.05):
                return
            if self._halt.asked():
                deadline = deadline or time.monotonic() + PATIENCE
                if time.monotonic() >= deadline:
                    return

    def close(self) -> None:
        """End the thread; what it is delivering is delivered."""
        self._closing.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    # --- its thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        try:
            while not self._closing.is_set() and not self._halt.error:
                self._woken.clear()
                try:
                    moved = self._round()
                except psycopg.Error as error:
                    broken = self._connection is None or self._connection.closed
                    failure = statement_error(error, _TIMEOUT, broken=broken)
                    self._wait_for_database(failure, backoff)
                except RetryableError as error:
                    self._wait_for_database(error, backoff)
                except PenstockError as error:
                    self._halt.fail(error)
                else:
                    backoff.reset()
                    self._tell()
                    if not moved:
                        self._idle()
        finally:
            self._disconnect()
            self._letters.close()

    def _idle(self) -> None:
        if self._drains and self._connected() and self._is_empty():
            self._drained.set()
        due = self._pacing.next_due(time.monotonic())
        self._woken.wait(
            min(0.05 if self._drains else LOOK_EVERY, LOOK_EVERY if due is None else due)
        )

    def _is_empty(self) -> bool:
        try:
            return self._table.is_empty(self._open(), list(self.sinks))
        except psycopg.Error:
            return False

    def _tell(self) -> None:
        """Let others see what waits for its sink."""
        why = next(iter(self._pacing.waits().values()), "")
        self.status = why and f"outbox {self._table.name}: {why}"
        self.away = self._pacing.away()

    def _wait_for_database(self, error: PenstockError, backoff: Backoff) -> None:
        """Wait until it may be asked again."""
        self.status = f"outbox {self._table.name}: {error.message}"
        self._disconnect()
        self._closing.wait(backoff.longer())

    def _round(self) -> bool:
        """Publish what the lanes at hand have first; return whether there was anything."""
        connection = self._open()
        self._count(connection)
        now = time.monotonic()
        sinks, held = self._pacing.asked(now), self._pacing.held(now)
        lanes = self._table.take_lanes(connection, sinks, held) if sinks else []
        if not lanes:
            return False
        rows = self._table.waiting(connection, sinks, lanes, MOST, held)
        self._publish(connection, rows)
        self._table.give_back(connection)
        return bool(rows)

    def _publish(self, connection: Connection, rows: Sequence[WaitingRow]) -> None:
        """Deliver rows, delete them, and hold what has to wait.

        Raises FatalError, and RetryableError of the state store.
        """
        ordered = {name: sink.traits.ordered for name, sink in self.sinks.items()}
        stuck: set[tuple[str, int]] = set()
        for sink, topic, group in groups_of(rows, ordered):
            mine = [each for each in group if (sink, each[0].turn) not in stuck] if stuck else group
            if not mine:
                continue
            failures = self.sinks[sink].deliver(_outgoing(topic, mine))
            fail_point("after_outbox_published")
            done = [row.seq for place, (row, _) in enumerate(mine) if place not in failures]
            self._table.delete(connection, done)
            waits: dict[int, RetryableError] = {}
            refused: dict[int, Refused] = {}
            for place, error in sorted(failures.items()):
                row, said = mine[place]
                if isinstance(error, RetryableError):
                    waits.setdefault(row.turn, error)
                elif isinstance(error, FatalError):
                    raise error
                else:
                    refused[row.seq] = Refused(row.pipeline, said["step"], row.origin, error)
            stuck.update((sink, turn) for turn in waits)
            tried = {row.turn for row, _ in mine}
            answered = bool(done or refused)
            self._pacing.tell(sink, tried, waits, time.monotonic(), answered=answered)
            if refused:
                self._refuse(connection, sink, refused)

    def _refuse(self, connection: Connection, sink: str, refused: Mapping[int, Refused]) -> None:
        """Keep rows as dead letters that will never be taken, say so, and delete them."""
        self._letters.keep(list(refused.values()))
        fail_point("after_refused_event_kept")
        self._table.delete(connection, list(refused))
        first = next(iter(refused.values()))
        log.warning(
            "events of an outbox are refused for good by their sink",
            code=REFUSED,
            pipeline=first.pipeline,
            step=first.step,
            sink=sink,
            events=len(refused),
            error=first.error.message,
            error_code=first.error.code,
            hint="They are dead letters. Mend the cause, then replay them: that publishes them, and"
            " makes no change again.",
        )

    def _count(self, connection: Connection) -> None:
        began = time.monotonic()
        if not self._counts or began < self._next_count:
            return
        found = self._table.depths(connection)
        self.depths = {name: found.get(name, 0) for name in self._counts}
        took = time.monotonic() - began
        self._next_count = began + max(COUNT_EVERY, took / _SHARE)

    # --- its connection -----------------------------------------------------------------------

    def _connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.open()
        return self._connection

    def _disconnect(self) -> None:
        """Close the connection, and so let go of all lanes."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


_ASKING = Asking(
    statement=parse_statement("SELECT 1"),
    timeout=_TIMEOUT,
    connections=1,
    max_rows=1,
    only_first=False,
    changes=True,
    returning=False,
    numeric_as_number=False,
)


def _outgoing(topic: str | None, rows: Sequence[Said]) -> Outgoing:
    def attributes() -> Mapping[str, Attribute]:
        names = dict.fromkeys(name for _, said in rows for name in said["attributes"])
        return {name: [said["attributes"].get(name) for _, said in rows] for name in names}

    values = [row.data for row, _ in rows]
    return Outgoing(values, [said["key"] for _, said in rows], attributes, topic)
