"""A live backfill: a worker as live traffic has it, over past events, under a name of its own.

Its outcomes are settled as those of live events are, so retries, sagas, dead letters and history need no
second answer. What is different: its executions are others than those that the live events had (their ids
say which job they are of), their dead letters too; and its idempotency keys are its own, if not asked otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from backfill.planning import Prepared
from backfill.reading import Counts, JobReader, without_counts
from backfill.report import Report
from backfill.samples import shown
from connectors.batch import Position
from connectors.contracts import Reader
from flows.plan import FlowPlan, PipelinePlan, SourcePlan, StepPlan
from flows.runtime.committer import Committer
from flows.runtime.halt import Halt
from flows.runtime.settle import Outcomes
from flows.state.backfills import Backfill
from flows.state.contracts import StateStore
from flows.state.records import DeadLetter, Settlement
from flows.state.rows import cursor

_PAGE, _PAGES = 500, 200
"""Dead letters that are looked at for the job's: at once, and how often at the most."""


def live_plan(prepared: Prepared, job: Backfill) -> FlowPlan:
    """Return the flow with one source more: the job's, which starts the pipeline alone."""
    pipeline = replace(prepared.pipeline, delivery="at_least_once", partition_by=None)
    if not prepared.request.respect_idempotency:
        pipeline = with_own_keys(pipeline, job.run)
    source = replace(prepared.source, name=job.owner, pipelines=(pipeline,), archive=None)
    return replace(prepared.plan, sources=(*prepared.plan.sources, source))


def with_own_keys(pipeline: PipelinePlan, run: str) -> PipelinePlan:
    """Return the pipeline with idempotency keys that no live event has, nor another job's."""
    own = pipeline.idempotency
    if own is not None:
        own = own.model_copy(update={"key_template": f"{run}/{own.key_template}"})
    return replace(
        pipeline, idempotency=own, steps=tuple(_own_step(step, run) for step in pipeline.steps)
    )


def _own_step(step: StepPlan, run: str) -> StepPlan:
    settings: Any = step.settings
    template = getattr(settings, "idempotency_key", None)
    if template is not None:
        settings = settings.model_copy(update={"idempotency_key": f"{run}/{template}"})
    return replace(
        step,
        settings=settings,
        inner={
            group: tuple(_own_step(each, run) for each in steps)
            for group, steps in step.inner.items()
        },
        compensate=None if step.compensate is None else _own_step(step.compensate, run),
        publishes=tuple(_own_step(each, run) for each in step.publishes),
    )


@dataclass(slots=True)
class LiveJob:
    """See `flows.runtime.jobs.Job`."""

    prepared: Prepared
    job: Backfill
    store: StateStore
    reader: JobReader | None = None
    """Once it is open."""

    @property
    def run(self) -> str:
        """What its executions have in their ids."""
        return self.job.run

    def open_reader(self, positions: Mapping[str, Position], halt: Halt) -> Reader:
        """Open the source's past behind the job's positions."""
        prepared = self.prepared
        inner = prepared.past(self.store).open(prepared.opening(without_counts(positions)))
        self.reader = JobReader(
            inner,
            Counts.of(positions),
            halt,
            keep=prepared.keep,
            rate=prepared.request.rate_limit,
        )
        return self.reader

    @property
    def read(self) -> int:
        """How many events were read so far."""
        return self.job.events if self.reader is None else self.reader.counts.read

    def outcomes(self, committer: Committer) -> Outcomes:
        """Return what says of outcomes whose events they are, and which job's."""
        return _Marked(committer, self.prepared.source, self.job)


@dataclass(frozen=True, slots=True)
class _Marked:
    """Names in outcomes the source that the events are of: replays of dead letters go to its workers."""

    committer: Committer
    source: SourcePlan
    job: Backfill

    @property
    def ticket(self) -> int:
        """The number of the batch in flight."""
        return self.committer.ticket

    def settle(self, settlement: Settlement) -> None:
        """Settle it under the source's name."""
        settlement.dead_letters = [self._letter(each) for each in settlement.dead_letters]
        if settlement.history is not None:
            settlement.history = replace(settlement.history, source=self.source.name)
        self.committer.settle(settlement)

    def flush(self) -> None:
        """Store it at once."""
        self.committer.flush()

    def _letter(self, letter: DeadLetter) -> DeadLetter:
        context = {**json.loads(letter.context), "backfill": self.job.id}
        return replace(letter, source=self.source.name, context=json.dumps(context))


def live_report(store: StateStore, job: Backfill) -> Report:
    """Return what a live job has come to so far, as it is stored with its positions."""
    counts = Counts.of(store.checkpoints(job.flow, job.owner))
    done, failed, skipped = store.backfills.totals(job)
    report = Report(read=counts.read, left_out=counts.left_out)
    report.done, report.failed, report.skipped = done, failed, skipped
    waiting = len(store.parked_places(job.flow, job.owner))
    taken = counts.read - counts.left_out
    report.not_triggered = max(0, taken - done - failed - skipped - waiting)
    if failed:
        _add_failures(store, job, report)
    return report


def _add_failures(store: StateStore, job: Backfill, report: Report) -> None:
    """Add the job's dead letters that are still there, newest first, as far as that takes no minute."""
    after: str | None = None
    for _ in range(_PAGES):
        letters = store.dead_letters(job.flow, pipeline=job.pipeline, limit=_PAGE, after=after)
        for letter in letters:
            if json.loads(letter.context).get("backfill") == job.id:
                sample = {
                    "execution": letter.id,
                    "event_id": letter.event_id,
                    "time": None,
                    "message": shown(letter.error_message),
                }
                report.fail(letter.step, letter.error_code, sample)
        if len(letters) < _PAGE or letters[-1].last_failed_at < (job.started_at or 0.0):
            return
        after = cursor(letters[-1])
