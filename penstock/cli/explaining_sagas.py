"""Explains a pipeline's saga: what is undone when a step fails, in which order, and what a crash does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.guarantees import after_crash_in_saga
from flows.plan import PipelinePlan
from flows.runtime.saga_rules import is_tracked, may_run_again

if TYPE_CHECKING:
    from penstock.cli.explaining import StepText


@dataclass(frozen=True, slots=True)
class UndoText:
    """What undoes one step."""

    step: str
    tries: int
    run_again: bool
    """Whether it runs again when a worker died in the middle of it; else a person has to look."""
    by: StepText


@dataclass(frozen=True, slots=True)
class SagaText:
    """A pipeline's saga."""

    timeout: float | None
    order: str
    undone: list[UndoText]
    """In the order in which they run when all steps are done."""
    after_crash: str


def explain_saga(pipeline: PipelinePlan, text_of: Callable[[Any], StepText]) -> SagaText | None:
    """Return the saga's explanation, None where the pipeline has none."""
    if pipeline.saga is None:
        return None
    steps = {step.compensate.name: step.name for step in pipeline.steps if step.compensate}
    tracked = [step for step in pipeline.steps if is_tracked(step)]
    return SagaText(
        timeout=pipeline.saga.timeout,
        order=pipeline.saga.compensation_order,
        undone=[
            UndoText(
                step=steps[each.name],
                tries=each.retry.max_attempts if each.retry else 1,
                run_again=may_run_again(each),
                by=text_of(each),
            )
            for each in pipeline.compensations()
        ],
        after_crash=after_crash_in_saga(
            [step.name for step in tracked if may_run_again(step)],
            [step.name for step in tracked if not may_run_again(step)],
        ),
    )
