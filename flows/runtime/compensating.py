"""Compensates what failed sagas have done: in order, each compensation stored before it and after it.

Comes after the last step. A compensation that fails for now parks its execution, as a step does; it
goes on there when it is due, or after a crash. One that gives up ends the saga as
`compensation_failed`, and those behind it wait for a person: order is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from connectors.batch import Column
from connectors.errors import FatalError, HeldError, PenstockError, PermanentError, RetryableError
from connectors.failpoints import fail_point
from flows.runtime.halt import Halt
from flows.runtime.retrying import delay_before
from flows.runtime.saga_rules import to_undo, turn_of
from flows.runtime.sagas import Sagas
from flows.runtime.stepping import StepRunner
from flows.runtime.time_limit import ended_untried
from flows.state.errors import error_row
from flows.state.sagas import Saga, Undoing
from transforms.executions import UNSET, Ended, Executions, Wait

if TYPE_CHECKING:
    from flows.plan import PipelinePlan

_NO_ERROR = PermanentError(
    "the execution failed and no step said why.", code="failed_without_error"
)


class Compensation:
    """The operator behind a pipeline's steps that undoes what failed sagas have done."""

    def __init__(
        self,
        plan: PipelinePlan,
        sagas: Sagas,
        runners: Sequence[StepRunner],
        halt: Halt,
        redact: Callable[[str], str],
    ) -> None:
        """`runners`: of the pipeline's compensations, in the order in which they run."""
        steps = {step.compensate.name: step.name for step in plan.steps if step.compensate}
        self._places = plan.places
        self._order = plan.compensations()
        self._undoes = [steps[compensation.name] for compensation in self._order]
        self.runners = runners
        self._runners = {runner.name: runner for runner in runners}
        self._sagas = sagas
        self._halt = halt
        self._redact = redact
        self._random = Random()  # noqa: S311 - jitter is no secret

    @property
    def status(self) -> str:
        """What it waits for, or ""; read by the reporter."""
        waits = (runner.status for runner in self._runners.values())
        return self._sagas.status or next((wait for wait in waits if wait), "")

    def __call__(self, executions: Executions) -> None:
        """Undo the failed executions' sagas as far as it goes; each is parked or has ended then."""
        if self._halt.error or not executions.sagas or not executions.ended:
            return
        failed = self._begin(executions)
        if failed is None or not failed:
            return
        retried = {k for k in failed if executions.sagas[k].status == "retrying"}
        fail_point("saga_before_undoing")
        executions.scope["error"] = self._errors(executions, failed)
        for number, compensation in enumerate(self._order):
            step = self._undoes[number]
            due = [k for k in failed if self._is_next(executions, k, compensation.name)]
            if due:
                self._compensate(executions, due, step, self._runners[compensation.name])
            if self._halt.error:
                return
        del executions.scope["error"]
        self._end(executions, failed, retried)

    # --- which, and how far -------------------------------------------------------------------

    def _begin(self, executions: Executions) -> list[int] | None:
        """Store what has become of steps that failed; return what is to be undone, None on a halt."""
        changed: list[Saga] = []
        failed: list[int] = []
        for index, ended in executions.ended.items():
            saga = executions.sagas.get(index)
            if saga is None:
                continue
            if ended.outcome == "failed":
                failed.append(index)
                if saga.status == "running":
                    self._fail(executions, index, saga, ended)
                    changed.append(saga)
            elif ended.outcome == "parked" and self._set_aside(executions, index, saga):
                changed.append(saga)
        failed.sort()
        return failed if self._sagas.save(changed) else None

    def _fail(self, executions: Executions, index: int, saga: Saga, ended: Ended) -> None:
        error = ended.error or _NO_ERROR
        row = error_row(error)
        assert row is not None  # noqa: S101 - there is an error
        row["message"], row["hint"] = self._redact(error.message), self._redact(error.hint)
        before = executions.resumed.get(index)
        again = before is not None and before.step == ended.step
        saga.status = "compensating"
        saga.step, saga.error, saga.failed_at = ended.step, row, self._sagas.clock()
        saga.attempts = 1
        if before is not None and again:
            saga.attempts = before.place.attempts + (0 if ended_untried(error) else 1)

    def _set_aside(self, executions: Executions, index: int, saga: Saga) -> bool:
        """Note that a step which failed is tried again, at the saga's deadline at the latest."""
        wait = executions.waits[index]
        if saga.deadline is not None:
            left = max(0.0, saga.deadline - self._sagas.clock())
            if wait.seconds > left:
                executions.waits[index] = Wait(wait.step, wait.attempts, left, wait.error)
        progress = saga.steps.get(self._places[wait.step])
        if wait.error is None or progress is None:
            return False  # it waits behind another, or for a step that changes nothing
        progress.status = "again"
        return True

    def _is_next(self, executions: Executions, index: int, compensation: str) -> bool:
        """Whether this is the first compensation that the execution still needs."""
        if executions.ended[index].outcome != "failed":
            return False
        saga = executions.sagas[index]
        if saga.status not in {"compensating", "retrying"}:
            return False
        left = to_undo(saga, self._order, self._undoes)
        return bool(left) and left[0].name == compensation

    # --- one compensation ---------------------------------------------------------------------

    def _compensate(
        self, executions: Executions, due: list[int], step: str, runner: StepRunner
    ) -> None:
        going: list[int] = []
        now = self._sagas.clock()
        for index in due:
            progress = executions.sagas[index].steps[step]
            if progress.undoing is None:
                progress.undoing = Undoing("started")
            undoing = progress.undoing
            if turn_of(undoing.status) == "refuse":
                self._give_up(executions.sagas[index], undoing, _interrupted(step))
                undoing.status = "interrupted"
                continue
            undoing.status, undoing.at = "started", now
            undoing.attempts += 1
            going.append(index)
        sagas = [executions.sagas[index] for index in due]
        if not self._sagas.save(sagas) or not going:
            return
        fail_point("saga_before_compensation")
        outputs = self._attempt(executions, going, runner)
        fail_point("saga_after_compensation")
        if self._halt.error:
            return
        now = self._sagas.clock()
        for index, output in zip(going, outputs or [UNSET] * len(going), strict=True):
            undoing = executions.sagas[index].steps[step].undoing
            assert undoing is not None  # noqa: S101 - it was made above
            undoing.at = now
            error = executions.failures.pop(index, None)
            if error is None:
                undoing.status, undoing.output, undoing.error = "done", output, None
            else:
                self._failed(executions, index, undoing, runner, error)
        self._sagas.save([executions.sagas[index] for index in going])

    def _attempt(self, executions: Executions, going: Sequence[int], runner: StepRunner) -> Column:
        outputs = runner.attempt(executions, going)
        # What an answer was like beside its body is no step's of the pipeline.
        executions.details.pop(runner.name, None)
        for error in executions.failures.values():
            if isinstance(error, FatalError):
                self._halt.fail(error)
        return outputs

    def _failed(
        self,
        executions: Executions,
        index: int,
        undoing: Undoing,
        runner: StepRunner,
        error: PenstockError,
    ) -> None:
        """Park the execution until the next try, or give the compensation up."""
        saga, plan = executions.sagas[index], runner.plan
        retry = plan.retry
        assert retry is not None  # noqa: S101 - the plan gives each one
        held = isinstance(error, HeldError)  # a circuit is open: that was no attempt
        # A sink that is away is waited for, here as in any publish step.
        patient = held or plan.type == "step.publish" or undoing.attempts < retry.max_attempts
        if not isinstance(error, RetryableError) or not patient:
            self._give_up(saga, undoing, error)
            return
        undoing.status, undoing.error = "again", self._row(error)
        if held:
            undoing.attempts -= 1
            seconds = error.retry_after or 0.0
        else:
            seconds = delay_before(retry, undoing.attempts, error.retry_after, self._random)
        executions.waits[index] = Wait(plan.number, undoing.attempts, seconds, error)
        executions.ended[index] = Ended("parked", plan.name, error)

    def _give_up(self, saga: Saga, undoing: Undoing, error: PenstockError) -> None:
        undoing.status, undoing.error = "failed", self._row(error)
        saga.status = "compensation_failed"

    def _row(self, error: PenstockError) -> dict[str, Any]:
        row = error_row(error)
        assert row is not None  # noqa: S101 - there is an error
        return {**row, "message": self._redact(error.message), "hint": self._redact(error.hint)}

    # --- the end ------------------------------------------------------------------------------

    def _end(self, executions: Executions, failed: Sequence[int], retried: set[int]) -> None:
        for index in failed:
            ended = executions.ended[index]
            if ended.outcome != "failed":
                continue  # it waits
            saga = executions.sagas[index]
            if saga.status != "compensation_failed":
                saga.status = "compensated"
            executions.undone[index] = saga.record()
            if index in retried:
                executions.ended[index] = Ended("undone", ended.step, ended.error)

    def _errors(self, executions: Executions, failed: Sequence[int]) -> Column:
        """Return `.error` as compensations see it: why the saga failed, and at which step."""
        column: Column = [None] * executions.events.size
        for index in failed:
            saga = executions.sagas[index]
            column[index] = {**(saga.error or {}), "step": saga.step}
        return column


def _interrupted(step: str) -> PermanentError:
    return PermanentError(
        f"the worker died while the compensation of step {step} ran; whether it took effect is not"
        " known.",
        code="compensation_interrupted",
        hint="Look whether it did: then `penstock saga retry ID --done STEP`, or `penstock saga retry"
        " ID` to run it again. With an idempotency_key it would run again by itself.",
        step=step,
    )
