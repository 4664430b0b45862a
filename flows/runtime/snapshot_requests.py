"""Tells a running source which snapshots are asked for, and the state store how far they are.

A thread, and a look once a second by an index; only for sources that can read rows again while
they go on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

from connectors.contracts import Reader, SnapshotReport, SnapshotRequest, Snapshotting
from connectors.errors import PenstockError, RetryableError
from connectors.threads import watched
from flows.plan import FlowPlan
from flows.runtime.halt import Halt
from flows.state.contracts import StateStore
from flows.state.snapshot_store import OPEN, Snapshot, Snapshots, Status
from flows.state.store import reopen_store

EVERY = 1.0
"""Seconds between looks."""


def ask_for_snapshots(
    plan: FlowPlan, source: str, reader: Reader, halt: Halt, opened: ExitStack
) -> None:
    """Start a thread for this reader if it is one that can; `opened` closes it."""
    if isinstance(reader, Snapshotting):
        asking = SnapshotRequests(
            plan.name,
            source,
            reader,
            lambda: reopen_store(plan.state_url),
            halt,
            redact=plan.redact,
        )
        asking.start()
        opened.callback(asking.close)


class SnapshotRequests:
    """The thread of one source's reader."""

    def __init__(
        self,
        flow: str,
        source: str,
        reader: Snapshotting,
        open_store: Callable[[], StateStore],
        halt: Halt,
        *,
        redact: Callable[[str], str],
    ) -> None:
        self._flow = flow
        self._source = source
        self._reader = reader
        self._open_store = open_store
        self._halt = halt
        self._redact = redact
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=watched("following snapshots", self._run, halt.fail),
            name="snapshots",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop it, with a last word on how far they are."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        store: StateStore | None = None
        try:
            while True:
                over = self._closing.is_set()
                try:
                    if store is None:
                        store = self._open_store()
                    self._look(store.snapshots)
                except RetryableError:
                    pass  # the committer says what is wrong with the state store, and waits too
                if over or (self._closing.wait(EVERY) and store is None):
                    return
        except PenstockError as error:
            self._halt.fail(error)
        finally:
            if store is not None:
                store.close()

    def _look(self, snapshots: Snapshots) -> None:
        """Record what became of those that were wanted, and want those that are open."""
        wanted = {one.id: one for one in snapshots.open(self._flow, self._source)}
        for report in self._reader.snapshot_reports():
            one = wanted.get(report.id)
            if one is not None and self._record(snapshots, one, report):
                del wanted[report.id]
        self._reader.want_snapshots(
            [
                SnapshotRequest(one.id, one.tables, paused=one.status == "paused")
                for one in wanted.values()
            ]
        )

    def _record(self, snapshots: Snapshots, one: Snapshot, report: SnapshotReport) -> bool:
        """Store what has changed; return whether it is over."""
        if report.error is not None:
            snapshots.change(
                one.id,
                OPEN,
                "failed",
                error_code=report.error.code,
                error_message=self._redact(f"{report.error.message} {report.error.hint}".strip()),
            )
            return True
        rows = one.rows if report.rows is None else report.rows
        if report.done:
            snapshots.change(one.id, OPEN, "done", rows=rows, table="")
            return True
        status: Status = "paused" if one.status == "paused" else "running"
        if (rows, report.table, status) != (one.rows, one.table, one.status):
            # Paused or cancelled in the meantime: it stays so.
            snapshots.change(one.id, (one.status,), status, rows=rows, table=report.table)
        return False
