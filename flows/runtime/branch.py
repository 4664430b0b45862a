"""`Branch`: one pipeline's operators in order, as the dataflow and tests of flows run them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.runtime.compensating import Compensation
from flows.runtime.ingest import Ingest
from flows.runtime.measures import Histogram, PipelineMeasures
from flows.runtime.sagas import Sagas
from flows.runtime.settle import Settle
from flows.runtime.stepping import StepRunner
from transforms.executions import Executions
from transforms.expressions import Program

if TYPE_CHECKING:
    from flows.runtime.exchange import Marks
    from flows.runtime.idempotency import OncePerKey
    from flows.runtime.idempotent_steps import StepKeys
    from flows.runtime.spread import DueHere


@dataclass(frozen=True, slots=True)
class Branch:
    """One pipeline's operators, in order."""

    name: str
    ingest: Ingest
    steps: Sequence[StepRunner]
    settle: Settle
    partition_by: Program | None = None
    marks: Marks | None = None
    """How far this process has settled its share; only in a cluster."""
    due: DueHere | None = None
    """What waits in this process of a pipeline that is spread; only in a cluster."""
    once: OncePerKey | None = None
    """Only of a pipeline with idempotency."""
    step_keys: StepKeys | None = None
    """Only of one with idempotent steps."""
    sagas: Sagas | None = None
    """Only of a pipeline with a saga, as is what compensates those that fail."""
    compensation: Compensation | None = None

    def each(self, executions: Executions) -> None:
        """Take executions through the steps, one after another, up to settle."""
        if self.once is not None:
            self.once(executions)
        if self.sagas is not None:
            self.sagas.take_up(executions)
        for runner in self.steps:
            runner(executions)
        if self.compensation is not None:
            self.compensation(executions)

    def every_runner(self) -> Iterator[StepRunner]:
        """Yield the steps in order, each followed by those inside it."""
        for runner in self.steps:
            yield from runner.every()

    def under_way(self) -> Iterator[StepRunner]:
        """Yield the innermost steps and compensations that run just now; from any thread."""
        for runner in self.steps:
            yield from runner.under_way()
        if self.compensation is not None:
            for runner in self.compensation.runners:
                yield from runner.under_way()

    def measures(self) -> PipelineMeasures:
        """Return a copy of what was measured so far."""
        tally = self.settle.tally
        return PipelineMeasures(
            tally.recorded,
            tally.durations + Histogram(),
            {
                runner.plan.place_in_pipeline: runner.meter.measures()
                for runner in self.every_runner()
            },
        )

    def run(self, part: Executions | bytes) -> None:
        """Take one part of a batch through steps and settle: the far side of an exchange.

        Our own part is settled with the source's position; one that was sent here, at once, and with it
        all that has been settled since. So is what goes on at a pulse.
        """
        marks = self.marks
        assert marks is not None  # noqa: S101 - only clusters exchange
        if isinstance(part, bytes) and not part:  # a pulse
            self._go_on()
            return
        executions = marks.fresh(part) if isinstance(part, Executions) else marks.received(part)
        self.settle.tally.active = executions.events.size - len(executions.ended)
        self.ingest.line_up(executions)
        self.each(executions)
        marks.passed(executions.events.after)
        if isinstance(part, Executions):
            self.settle(executions)
        else:
            self.settle.durably(executions)

    def run_here(self, executions: Executions) -> None:
        """Take what is not spread through steps and settle, in a cluster.

        In one go: what another pipeline settles at once, between a step that publishes and settle, would be
        stored with a length of their common file that has this one's lines in it.
        """
        self.each(executions)
        if self.marks is not None:
            self.marks.passed(executions.events.after)
        self.settle(executions)

    def _go_on(self) -> None:
        """Run what waits here and is due; it is stored at once."""
        executions = None if self.due is None else self.due.take()
        if executions is None:
            return
        self.settle.tally.active = executions.events.size - len(executions.ended)
        self.each(executions)
        self.settle.durably(executions)
