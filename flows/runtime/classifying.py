"""What a flow says of errors by itself: `retry_on` and `permanent_on`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from connectors.errors import FatalError, HeldError, PenstockError, PermanentError, RetryableError
from flows.spec.pipelines import ErrorCondition, Retry
from transforms.jq import compile_program

_Pattern = int | str | ErrorCondition
_Matches = Callable[[PenstockError, int], bool]
"""(error, which attempt it was) → whether the pattern is of it."""

_STATUSES = range(100, 600)


class Classifier:
    """Makes a permanent error retryable, or the other way round, where the flow says so."""

    def __init__(self, retry: Retry) -> None:
        """Compile the patterns. Raises ExpressionError."""
        self._retryable = [_pattern(each) for each in retry.retry_on]
        self._permanent = [_pattern(each) for each in retry.permanent_on]

    def __call__(self, error: PenstockError, attempt: int) -> PenstockError:
        """Return the error as what it is for this flow; attempts count from 1.

        A fatal error stays one: it is about the whole flow. So does one that was not even tried.
        """
        if isinstance(error, (FatalError, HeldError)):
            return error
        if any(matches(error, attempt) for matches in self._permanent):
            return error if isinstance(error, PermanentError) else _as(PermanentError, error)
        if any(matches(error, attempt) for matches in self._retryable):
            return error if isinstance(error, RetryableError) else _as(RetryableError, error)
        return error


def classifier_of(retry: Retry | None) -> Classifier | None:
    """Return the classifier of a step; None where the flow says nothing."""
    if retry is None or not (retry.retry_on or retry.permanent_on):
        return None
    return Classifier(retry)


def _as(kind: type[PenstockError], error: PenstockError) -> PenstockError:
    made = kind(error.message, code=error.code, hint=error.hint, **error.context)
    made.__cause__ = error.__cause__
    return made


def _pattern(written: _Pattern) -> _Matches:
    if isinstance(written, ErrorCondition):
        return _condition(written.when)
    if isinstance(written, int):
        if written in _STATUSES:
            return lambda error, _: error.context.get("status") == written
        state = f"{written:05}"  # YAML reads 23505 as a number
        return lambda error, _: error.context.get("sqlstate") == state
    if written.endswith("xx"):
        return lambda error, _: str(error.context.get("status", ""))[:1] == written[0]
    if written.endswith("*"):
        return lambda error, _: error.code.startswith(written[:-1])
    return lambda error, _: written in {error.code, error.context.get("sqlstate")}


def _condition(program: str) -> _Matches:
    outputs = compile_program(program).outputs

    def matches(error: PenstockError, attempt: int) -> bool:
        try:
            found: Sequence[Any] = outputs(_shown(error, attempt))
        except PermanentError:
            return False  # a program that fails for this error is not about it
        return bool(found) and found[0] is not None and found[0] is not False

    return matches


def _shown(error: PenstockError, attempt: int) -> dict[str, Any]:
    return {
        "code": error.code,
        "kind": error.kind,
        "message": error.message,
        "hint": error.hint,
        "status": error.context.get("status"),
        "context": error.context,
        "attempts": attempt,
    }
