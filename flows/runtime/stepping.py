"""Runs one step over a batch's executions: conditions, outputs, and what a failure means."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from connectors.batch import Column
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from flows.runtime.halt import Halt
from transforms.contracts import Step
from transforms.executions import UNSET, Ended, Executions
from transforms.expressions import compile_jq

if TYPE_CHECKING:
    from flows.plan import StepPlan

FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
"""Backoff in seconds while a sink is away."""


class StepRunner:
    """One step of one pipeline, as the dataflow's operator calls it."""

    def __init__(self, plan: StepPlan, step: Step, halt: Halt) -> None:
        self.plan = plan
        self.step = step
        self.status = ""
        """What it waits for, or ""; read by the reporter."""
        self._halt = halt
        self._if = compile_jq(plan.if_) if plan.if_ else None
        self._skip_if = compile_jq(plan.skip_if) if plan.skip_if else None
        self._publishes = plan.type == "step.publish"

    def __call__(self, executions: Executions) -> None:
        """Run the step for every execution that has come this far and is not held back by `if`."""
        if self._halt.error:
            return
        indexes = executions.going(self.plan.number)
        if self._if is not None or self._skip_if is not None:
            indexes = self._applicable(executions, indexes)
        if not indexes:
            return
        outputs = self._run(executions, indexes)
        if executions.failures and self._publishes:
            self._await_sink(executions, indexes)
        if executions.failures:
            self._settle_failures(executions)
        if self.step.has_output:
            self._keep(executions, indexes, outputs)

    def _run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Run it. An exception that a step let through is a bug of the step: its events fail."""
        try:
            return self.step.run(executions, indexes)
        except Exception as error:  # noqa: BLE001 - settled as dead letters with the stack
            bug = PermanentError(
                f"step {self.plan.name} broke: {type(error).__name__}: {error}.",
                code="internal_error",
                hint="This is a bug in the step; the stack is in the dead letter.",
                stack=traceback.format_exc(limit=-12),
            )
            for index in indexes:
                executions.failures[index] = bug
            return [UNSET] * len(indexes)

    def _keep(self, executions: Executions, indexes: Sequence[int], outputs: Column) -> None:
        size = executions.events.size
        if len(indexes) == size:
            executions.outputs[self.plan.name] = outputs
            return
        column: Column = [UNSET] * size
        for index, value in zip(indexes, outputs, strict=True):
            column[index] = value
        executions.outputs[self.plan.name] = column

    def _applicable(self, executions: Executions, indexes: Sequence[int]) -> list[int]:
        """Return the indexes for which `if` is true and `skip_if` is not."""
        kept = list(indexes)
        passed_over = executions.passed_over.setdefault(self.plan.name, {})
        for program, wanted in ((self._if, True), (self._skip_if, False)):
            if program is None or not kept:
                continue
            values, errors = program.column(executions, kept)
            going = []
            for index, value in zip(kept, values, strict=True):
                if index in errors:
                    self._fail(executions, index, errors[index])
                elif _truthy(value) is wanted:
                    going.append(index)
                else:
                    passed_over[index] = None
            kept = going
        return kept

    def _await_sink(self, executions: Executions, indexes: Sequence[int]) -> None:
        """Deliver again what a sink could not take just now, until it can or the worker stops.

        A sink that is away holds the flow back; it does not pour the source into dead letters.
        """
        delay = FIRST_DELAY
        while True:
            waiting = [k for k in indexes if isinstance(executions.failures.get(k), RetryableError)]
            if not waiting:
                self.status = ""
                return
            error = executions.failures[waiting[0]]
            self.status = f"{self.plan.name}: {error.message}"
            retry_after = getattr(error, "retry_after", None) or 0.0
            if self._halt.wait(max(delay, min(retry_after, 60.0))):
                self._halt.fail(_stopped_waiting(self.plan.name, error, len(waiting)))
                return
            for index in waiting:
                del executions.failures[index]
            self._run(executions, waiting)
            delay = min(delay * 2, LONGEST_DELAY)

    def _settle_failures(self, executions: Executions) -> None:
        for index, error in sorted(executions.failures.items()):
            if isinstance(error, FatalError):
                self._halt.fail(error)
                break
            self._fail(executions, index, error)
        executions.failures.clear()

    def _fail(self, executions: Executions, index: int, error: PenstockError) -> None:
        if self.plan.on_error == "skip":
            executions.passed_over.setdefault(self.plan.name, {})[index] = error
        else:
            executions.end(index, Ended("failed", self.plan.name, error))


def _truthy(value: Any) -> bool:
    return value is not None and value is not False


def _stopped_waiting(step: str, error: PenstockError, count: int) -> FatalError:
    return FatalError(
        f"stopped while step {step} waited for its sink: {error.message}",
        code="sink_unavailable",
        hint=f"{count} events were not confirmed; they come again at the next start.",
        unreachable=True,
        step=step,
    )
