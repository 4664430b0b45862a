"""A dry run or a shadow, from where it stood to its end: read, run with effects held back, note how far.

What was found and the position that it was found till are stored in one transaction. So a job that is
killed goes on with both, and what it does once more it counts once.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from backfill.originals import Originals
from backfill.planning import Prepared
from backfill.reading import Counts, JobReader, without_counts
from backfill.report import Comparison, Report
from backfill.trial import Trial
from connectors.contracts import EndOfSource
from connectors.errors import RetryableError
from connectors.failpoints import fail_point
from flows.runtime.backoff import Backoff
from flows.runtime.halt import Halt
from flows.runtime.intake import BATCH
from flows.state.backfills import Backfill
from flows.state.contracts import StateStore
from flows.state.records import Lease

SAVE_EVERY = 1.0
"""Seconds between two notes of how far it is."""


class DryRun:
    """One process's part of a job without effects."""

    def __init__(
        self, prepared: Prepared, job: Backfill, store: StateStore, lease: Lease, halt: Halt
    ) -> None:
        self._prepared = prepared
        self._job = job
        self._store = store
        self._lease = lease
        self._halt = halt
        positions, document = store.backfills.saved(job.id)
        self._positions = positions
        self._report = Report() if document is None else Report.of(document)
        if document is None and job.mode == "shadow":
            self._report.comparison = Comparison()
        self.counts = Counts.of(positions)

    def run(self) -> bool:
        """Run to the end, or until somebody wants it to stop; return whether that was the end.

        Raises PenstockError.
        """
        prepared, halt = self._prepared, self._halt
        with ExitStack() as opened:
            inner = prepared.past(self._store).open(
                prepared.opening(without_counts(self._positions))
            )
            reader = JobReader(
                inner,
                self.counts,
                halt,
                keep=prepared.keep,
                rate=prepared.request.rate_limit,
            )
            opened.callback(reader.close)
            trial = Trial(
                prepared.plan,
                prepared.source,
                prepared.pipeline,
                originals=Originals(self._store, prepared.plan.name, prepared.pipeline.name),
                report=self._report,
                rules=prepared.rules,
                halt=halt,
                opened=opened,
                offline=prepared.request.offline,
            )
            saved = time.monotonic()
            while not halt.asked():
                try:
                    batch = reader.poll(BATCH, 0.1)
                except EndOfSource:
                    self._save()
                    return True
                if batch is not None:
                    trial.run(batch)
                    self._positions.update(batch.after)
                    fail_point("backfill_after_batch")
                if time.monotonic() - saved > SAVE_EVERY:
                    self._save()
                    saved = time.monotonic()
            if halt.error is not None:
                raise halt.error
            self._save()
            return False

    def _save(self) -> None:
        """Store how far it is; a state store that is away is waited for."""
        report, counts = self._report, Counts.of(self._positions)
        report.read, report.left_out = counts.read, counts.left_out
        backoff = Backoff(0.05, 5.0)
        while True:
            try:
                self._store.backfills.save(
                    self._lease, self._job.id, self._positions, report.document()
                )
            except RetryableError:
                if self._halt.wait(backoff.longer()):
                    raise
            else:
                return
