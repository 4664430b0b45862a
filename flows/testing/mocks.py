"""Stands where a step would reach outside, and answers what the case says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from connectors.batch import Column
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from flows.state.jsontext import json_text
from flows.testing.model import Mock, MockError
from transforms.contracts import Step, StepType
from transforms.executions import UNSET, Executions
from transforms.expressions import View, compile_jq, compile_template
from transforms.registry import step_type

if TYPE_CHECKING:
    from flows.plan import StepPlan

Mocks = Mapping[str, Mock | list[Mock]]

MISTAKES = frozenset({"mock_missing", "mock_used_up"})
"""Codes of errors that say: the case is wrong, and not the flow."""

_ERRORS: Mapping[str, Callable[..., PenstockError]] = {
    "retryable": RetryableError,
    "permanent": PermanentError,
    "fatal": FatalError,
}


class Answers:
    """What a mocked step answers, call by call."""

    def __init__(self, step: str, mock: Mock | list[Mock]) -> None:
        self._step = step
        self._mock = mock
        self._calls = 0

    def next(self) -> Mock:
        """Return the answer of the next call. Raises FatalError when a list is at its end."""
        self._calls += 1
        if isinstance(self._mock, Mock):
            return self._mock
        if self._calls > len(self._mock):
            raise FatalError(
                f"the mock of step {self._step} has {_count(len(self._mock))}, and it was called"
                f" {self._calls} times.",
                code="mock_used_up",
                hint="Add one, or write a single answer without a list for every call.",
            )
        return self._mock[self._calls - 1]


class MockedStep:
    """Answers for the step. Its output is what the case says; so are `.status` and `.headers`."""

    def __init__(self, plan: StepPlan, answers: Answers) -> None:
        self.has_output = _kind(plan.type).has_output
        self._plan = plan
        self._answers = answers

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return the answers, one per event in order."""
        out: Column = []
        for index in indexes:
            try:
                out.append(self._answer(self._answers.next(), executions, index))
            except PenstockError as error:
                executions.failures[index] = error
                out.append(UNSET)
        return out if self.has_output else []

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, mock: Mock, executions: Executions, index: int) -> Any:
        if mock.error is not None:
            raise made(mock.error)
        value = mock.output
        if mock.expression is not None:
            values, errors = compile_jq(mock.expression).column(executions, [index])
            if index in errors:
                raise errors[index]
            value = values[0]
        if self._plan.type == "step.http_call":
            self._details(executions)[index] = {
                "status": mock.status or 200,
                "headers": dict(mock.headers),
            }
            if mock.status is not None and not 200 <= mock.status < 300:
                return _refused(self._plan, mock, value, View(executions, index))
        return value

    def _details(self, executions: Executions) -> Column:
        column = executions.details.get(self._plan.name)
        if column is None:
            column = executions.details[self._plan.name] = [None] * executions.events.size
        return column


class UnmockedStep:
    """Stands where a step would reach outside and the case has no mock: being run is an error."""

    def __init__(self, plan: StepPlan) -> None:
        self.has_output = _kind(plan.type).has_output
        self._plan = plan

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Fail with what to write."""
        name = self._plan.place_in_pipeline
        executions.failures[indexes[0]] = FatalError(
            f"step {name} ({self._plan.type}) would reach outside, and the case has no mock of it.",
            code="mock_missing",
            hint=f"Add to the case: mocks: {{ {name}: {{ output: … }} }}",
            step=name,
        )
        return [UNSET] * len(indexes) if self.has_output else []

    def close(self) -> None:
        """Nothing is held."""


class WatchedStep:
    """Runs a step and notes for which events it ran."""

    def __init__(self, step: Step, ran: set[int]) -> None:
        self.has_output = step.has_output
        self._step = step
        self._ran = ran

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Run it."""
        self._ran.update(indexes)
        return self._step.run(executions, indexes)

    def close(self) -> None:
        """Close it."""
        self._step.close()


def reaches_outside(kind: StepType, settings: Any) -> bool:
    """Whether a step talks to something outside, so that a test must not run it.

    A publish step does too, and is run all the same: its sink is what is replaced.
    """
    if kind.name == "step.publish":
        return False
    return kind.effect or kind.outside or bool(getattr(settings, "effect", False))


def refusing(answers: Answers) -> Callable[[], PenstockError | None]:
    """Return what a mocked publish step's sink says to each event."""

    def next_error() -> PenstockError | None:
        try:
            error = answers.next().error
        except FatalError as used_up:
            return used_up
        return None if error is None else made(error)

    return next_error


def made(error: MockError) -> PenstockError:
    """Return the error that a mock describes."""
    return _ERRORS[error.kind](error.message, code=error.code)


def _count(answers: int) -> str:
    return "1 answer" if answers == 1 else f"{answers} answers"


def _kind(name: str) -> StepType:
    kind = step_type(name)
    assert kind is not None  # noqa: S101 - the plan was checked when it was loaded
    return kind


def _refused(plan: StepPlan, mock: Mock, value: Any, view: View) -> Any:
    """Return what http_call makes of an answer outside 2xx; raises its error where it is one."""
    import httpx  # noqa: PLC0415 - takes 60 ms, and few cases need it

    from transforms.steps.http_answers import Answer, Call, result_of  # noqa: PLC0415

    settings = plan.settings
    url = httpx.URL(compile_template(settings.url).render(view, required=True))
    headers = httpx.Headers({"content-type": "application/json", **mock.headers})
    body = b"" if value is None else json_text(value)
    return result_of(
        Answer(url, mock.status or 200, headers, body),
        Call(settings.method, url),
        error_on_status=settings.error_on_status,
        now=datetime.now(timezone.utc),
    )
