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


@dataclass(frozen=True, slots=True)
class Branch:
    """One pipeline's operators, in order."""

    name: str
    ingest: Ingest
    steps: Sequence[StepRunner]
    settle: Settle
    partition_by: Program | None = None
    marks: Marks | None = None
    """What this process has settled of what others sent it; only in a cluster."""
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
        what of our own has been settled since.
        """
        marks = self.marks
        assert marks is not None  # noqa: S101 - only clusters exchange
        executions = marks.fresh(part) if isinstance(part, Executions) else marks.received(part)
        self.settle.tally.active = executions.events.size - len(executions.ended)
        self.each(executions)
        marks.passed(executions.events.after)
        if isinstance(part, Executions):
            self.settle(executions)
        else:
            self.settle.durably(executions, marks.owner, marks.since_start)
