"""A pipeline's `timeout`: how long one execution may take, its waits between tries included.

The clock runs from the execution's first try of its first step, over waits and restarts. It stands
still while a sink that is away holds the flow back. What is over it is ended before its next step, or
its next try; a step that is under way is not cut short, since it may have acted by then. It ends by
a timeout of its own, which is never longer than the pipeline's (flows.plan).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from connectors.errors import PenstockError, PermanentError
from transforms.executions import Ended, Executions

if TYPE_CHECKING:
    from flows.plan import StepPlan

CODE = "execution_timeout"


class TimeLimit:
    """The timeout of one pipeline."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self.seconds = seconds
        self._clock = clock

    def end_overdue(self, executions: Executions, step: StepPlan) -> int:
        """End those whose time is over before they run `step`; return how many.

        One comparison, unless some of the batch have waited.
        """
        over_since = self._clock() - self.seconds - sum(executions.held_back)
        starts, started = executions.starts, executions.started
        if not starts and started > over_since:
            return 0
        overdue = [
            index
            for index in executions.going(step.number)
            if starts.get(index, started) <= over_since
        ]
        if overdue:
            ended = Ended("failed", step.name, self._error(step))
            for index in overdue:
                executions.end(index, ended)
        return len(overdue)

    def left(self, executions: Executions, index: int) -> float:
        """Return the seconds that an execution has left; 0 when its time is over."""
        started = executions.started_at(index)
        return max(0.0, started + self.seconds - self._clock())

    def given_up(self, step: StepPlan, cause: PenstockError) -> PermanentError:
        """Return the error of an execution that would be tried again, had it the time."""
        return self._error(step, cause)

    def _error(self, step: StepPlan, cause: PenstockError | None = None) -> PermanentError:
        about: dict[str, object] = {"step": step.place_in_pipeline}
        why = ""
        if cause is not None:
            about["cause"] = cause.code
            why = f" Its last try: {cause.message}"
        return PermanentError(
            f"the execution was not done within its timeout of {self.seconds:g}s.{why}",
            code="execution_timeout",
            hint="Raise the pipeline's `timeout` if it needs longer, then replay the event.",
            **about,
        )


def ended_untried(error: PenstockError | None) -> bool:
    """Whether an execution's time was over before its step was tried (once more)."""
    return error is not None and error.code == CODE and "cause" not in error.context
