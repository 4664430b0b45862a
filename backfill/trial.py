"""A pipeline with its effects held back: the steps of live traffic, over past events, batch by batch.

Nothing of it can reach outside: sinks are stood in for, steps with effects are not even made, and it is
settled nowhere. What reads (GET, db_query) runs, unless `offline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from backfill.comparing import Comparer
from backfill.originals import Originals
from backfill.publishing import Publishing
from backfill.report import Report
from backfill.samples import Json, shown
from backfill.shapes import Rules
from backfill.suppressing import AtHand, HeldBack, HeldPublish, NoSink, Silent, is_held_back
from connectors.batch import Batch
from connectors.contracts import Sink
from connectors.errors import PenstockError
from flows.plan import FlowPlan, PipelinePlan, SourcePlan, StepPlan
from flows.runtime.assemble import assemble_branches, make_step, sinks_of
from flows.runtime.halt import Halt
from flows.runtime.redacting import redacted
from flows.runtime.sinks import make_sink
from flows.state.letters import execution_id
from flows.testing.capture import Settled
from transforms.contracts import Step, StepEnvironment
from transforms.executions import Executions


class Trial:
    """One pipeline over past events; a context manager's `opened` closes its steps."""

    def __init__(
        self,
        plan: FlowPlan,
        source: SourcePlan,
        pipeline: PipelinePlan,
        *,
        originals: Originals | None,
        report: Report,
        rules: Rules,
        halt: Halt,
        opened: ExitStack,
        offline: bool = False,
    ) -> None:
        """`report` is added to. `originals`: where recorded executions are found; None: nowhere."""
        self._plan = plan
        self._source = source
        self._report = report
        self._originals = originals
        self._halt = halt
        self._offline = offline
        self._publishing: Publishing | None = None
        if originals is not None and report.comparison is not None:
            self._publishing = Publishing(plan, pipeline, originals.store)
        self._at = AtHand(report, ran=None if self._publishing is None else self._publishing.ran)
        self._asks = False
        """Whether any step may be answered from history."""
        self._answered: list[str] = []
        # What can't be had just now is told as it is: nothing waits to be tried again.
        pipeline = replace(
            pipeline, steps=tuple(map(_tried_once, pipeline.steps)), idempotency=None, saga=None
        )
        sinks: dict[str, Sink] = {
            name: NoSink(make_sink(plan.sink(name)).traits) for name in sinks_of(pipeline)
        }
        (self._branch,) = assemble_branches(
            replace(plan, history=replace(plan.history, record="off")),
            replace(source, pipelines=(pipeline,)),
            sinks,
            committer=Settled(),
            halt=halt,
            opened=opened,
            marks={},
            parkings={},
            make=self._step,
        )
        self._comparer = None
        if report.comparison is not None:
            self._comparer = Comparer(
                report.comparison,
                rules,
                source.name,
                plan.redact,
                frozenset(self._answered),
                self._publishing,
            )

    def _step(self, plan: StepPlan, environment: StepEnvironment) -> Step:
        if plan.type == "step.publish":
            return HeldPublish(plan, environment, self._at)
        if plan.type == "step.log":
            return Silent()
        if is_held_back(plan, offline=self._offline):
            self._asks = True
            self._answered.append(plan.name)
            return HeldBack(plan, self._at)
        return make_step(plan, environment)

    def run(self, batch: Batch) -> None:
        """Take a batch through, and add to the report what comes of it.

        Raises PenstockError for what would stop a worker.
        """
        if not batch.size:
            return
        originals: Sequence[Any] = ()
        if self._originals is not None and (self._comparer is not None or self._asks):
            originals = self._originals.of(batch)
        self._at.originals = originals
        for ran in (self._at.ran or {}).values():
            ran.clear()
        executions = self._branch.ingest(batch)
        self._branch.each(executions)
        if self._halt.error is not None:
            raise self._halt.error
        self._count(executions)
        if self._comparer is not None:
            if self._plan.history.redact:
                executions = redacted(executions, self._plan.history.redact)[0]
            self._comparer.compare(executions, originals)

    def _count(self, executions: Executions) -> None:
        report = self._report
        report.done += executions.events.size - len(executions.ended)
        for index, ended in executions.ended.items():
            if ended.outcome == "not_triggered":
                report.not_triggered += 1
            elif ended.outcome == "skipped":
                report.skipped += 1
            elif ended.outcome == "repeated":
                report.done += 1
            elif ended.error is not None and ended.error.code == "effect_suppressed":
                report.reached += 1
            else:
                report.failed += 1
                code = "failed_without_error" if ended.error is None else ended.error.code
                report.fail(ended.step, code, self._sample(executions, index, ended.error))

    def _sample(self, executions: Executions, index: int, error: PenstockError | None) -> Json:
        events = executions.events
        message = "" if error is None else error.message
        return {
            "execution": execution_id(executions, index, self._source.name),
            "event_id": events.column("id")[index],
            "time": events.column("time")[index],
            "message": shown(self._plan.redact(message)),
        }


def _tried_once(step: StepPlan) -> StepPlan:
    return replace(step, retry=None, compensate=None)
