"""A small message in the WAL now and then, so that a slot whose tables rest moves on all the same.

The same thread looks at the slot's health; where no message is written, it does that alone.

Without it a slot in a database where nothing happens keeps the WAL that other databases write:
the walsender has nothing to send, hence nothing to have confirmed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import psycopg

from connectors.errors import FatalError
from connectors.postgres_cdc.catalog import SlotFacts, read_slot
from connectors.postgres_cdc.connection import Connection, connect, one_line
from connectors.postgres_cdc.position import parse_lsn
from connectors.threads import watched

PREFIX = "penstock.heartbeat"

_log = logging.getLogger(__name__)

LOOK = 10.0
"""Seconds between looks at the slot's health, at least."""


def _trouble(name: str, slot: SlotFacts) -> str:
    """Return what a person should know of a slot before it is lost; "" when all is well."""
    if slot.lost:
        return f"the slot {name} is invalidated ({slot.lost})"
    if slot.retained == "unreserved":
        return (
            f"the slot {name} is about to be lost: it holds more WAL than max_slot_wal_keep_size, "
            "which goes at the server's next checkpoint"
        )
    return ""


class Heartbeat:
    """Writes the message every `interval` seconds on a thread and a connection of its own."""

    def __init__(
        self,
        connection: str,
        application: str,
        interval: float,
        version: int,
        seen: Callable[[int], None],
        *,
        slot: str,
        fail: Callable[[FatalError], None],
    ) -> None:
        """`interval`: seconds between messages; 0: none is written. `fail` is told of a defect."""
        self._conninfo = connection
        self._application = application
        self._interval = interval
        # Not transactional, so that the slot has nothing to decode; flushed at once where the
        # server can (17), and else by a transaction's commit: WAL that isn't flushed isn't sent.
        self._statement = (
            f"SELECT pg_catalog.pg_logical_emit_message(false, '{PREFIX}', '', true)::text"
            if version >= 170000
            else f"SELECT pg_catalog.pg_logical_emit_message(true, '{PREFIX}', '')::text"
        )
        self._what_fails = "heartbeat can't be written" if interval else "slot can't be seen"
        self._seen = seen
        self._slot = slot
        self._looked = float("-inf")
        self.warning = ""
        """What is wrong with the slot, while it is; else ""."""
        self.found: SlotFacts | None = None
        """The slot as it was last seen."""
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._thread = threading.Thread(
            target=watched("looking after the replication slot", self._run, fail),
            name="cdc-heartbeat",
            daemon=True,
        )

    def start(self) -> None:
        """Start; the first message is written at once."""
        self._thread.start()

    def _run(self) -> None:
        failing = False
        try:
            while True:
                try:
                    self._beat()
                    failing = False
                except (psycopg.Error, OSError) as error:
                    self._disconnect()
                    if not failing:
                        _log.warning("the %s: %s", self._what_fails, one_line(error))
                    failing = True
                if self._stop.wait(self._interval or LOOK):
                    return
        finally:
            self._disconnect()

    def _beat(self) -> None:
        if self._connection is None:
            self._connection = connect(self._conninfo, self._application)
        if self._interval:
            row = self._connection.execute(self._statement).fetchone()
            if row is not None:
                self._seen(parse_lsn(row[0]))
        now = time.monotonic()
        if now - self._looked >= LOOK:
            self._looked = now
            self.found = found = read_slot(self._connection, self._slot)
            warning = "" if found is None else _trouble(self._slot, found)
            if warning and not self.warning:
                _log.warning("%s", warning)
            self.warning = warning

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self, timeout: float) -> None:
        """Stop; waits at most `timeout` seconds for a message that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
