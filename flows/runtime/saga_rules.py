"""What a saga decides: pure, without clock, store or network. docs/how-to/sagas.md tells it to users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from connectors.errors import PenstockError
from flows.state.sagas import Progress, Saga, StepProgress

if TYPE_CHECKING:
    from flows.plan import StepPlan

Turn = Literal["run", "use", "refuse"]
"""run the step; use the output that it had; refuse to run it, since it may have taken effect."""

_SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""HTTP's idempotent methods (RFC 9110, 9.2.2)."""

_LEFT_OPEN = frozenset(
    {
        "http_unreachable",  # the connection was cut while an answer was awaited
        "http_response",  # it has answered, and can't be understood
        "http_response_too_long",
        "db_unavailable",  # the connection broke: perhaps behind the commit
        "internal_error",
        "step_interrupted",
    }
)
_UNDONE_BY_ITSELF = frozenset({"db_timeout", "js_timeout"})
"""Timeouts that leave nothing behind: the statement was rolled back, the script only computes."""

_GATEWAY_LOST_IT = frozenset({502, 504})
"""A gateway's words for: the server behind it may have done it, its answer did not come through."""

_CUT = frozenset({"TimeoutError", "ConnectionResetError", "BrokenPipeError", "ConnectionError"})
"""Exceptions of a Python function that say: what was asked for may have happened."""


def is_tracked(step: StepPlan) -> bool:
    """Whether a saga keeps record of the step: it changes something, or something undoes it."""
    return step.acts or step.compensate is not None


def may_run_again(step: StepPlan) -> bool:
    """Whether the step can be run though an earlier run of it may have taken effect.

    One that only reads can; so can a publish, whose event has the same id each time, an HTTP method
    that is idempotent, and whatever has an idempotency key. One with steps inside it can if all of
    those can.
    """
    if step.inner:
        return all(may_run_again(each) for steps in step.inner.values() for each in steps)
    if not step.acts or step.type == "step.publish":
        return True
    settings = step.settings
    if getattr(settings, "idempotent", False) or getattr(settings, "idempotency_key", None):
        return True
    return getattr(settings, "method", "POST") in _SAFE_TO_REPEAT


def may_have_acted(step: StepPlan, error: PenstockError) -> bool:
    """Whether a step that failed so may have taken effect all the same.

    Not when it was refused (4xx), or answered that it failed (500, 503), or was never sent; but
    when nobody knows: no answer in time, the connection cut, an answer that can't be read. Of a
    step with steps inside it, some may be done when another fails.
    """
    if step.inner:
        return step.acts
    if not step.acts or error.context.get("effect") == "none":
        return False
    if error.code == "http_status":
        return error.context.get("status") in _GATEWAY_LOST_IT
    if error.code == "python_error":
        return error.context.get("type") in _CUT
    if error.code in _UNDONE_BY_ITSELF:
        return False
    return error.code in _LEFT_OPEN or error.code.endswith("_timeout")


def turn_of(progress: Progress | None) -> Turn:
    """Return what to do with a step that an execution has come to, by how far it is already."""
    if progress == "done":
        return "use"
    return "refuse" if progress == "interrupted" else "run"


def after_crash(progress: Progress, *, again: bool) -> Progress:
    """Return how far a step, or a compensation, is when its saga is taken up again.

    One that was started had no end that anybody recorded: it is run again if it may be (`again`,
    see `may_run_again`), and else stands as interrupted. So is one that had failed and was passed
    over (`on_error: skip`).
    """
    if progress not in {"started", "failed"}:
        return progress
    return "again" if again else "interrupted"


def to_undo(saga: Saga, order: Sequence[StepPlan], undoes: Sequence[str]) -> list[StepPlan]:
    """Return the compensations that a failed saga still needs, in order.

    `order`: all of the pipeline's; `undoes`: the step that each of them undoes. A step is
    compensated if it is done, or may have taken effect though it failed.
    """
    return [
        compensation
        for compensation, step in zip(order, undoes, strict=True)
        if step in saga.steps and _needs(saga.steps[step])
    ]


def _needs(step: StepProgress) -> bool:
    undone = step.undoing is not None and step.undoing.status == "done"
    return step.may_have_acted and not undone
