"""What each step of a recorded execution did: it is not stored, it follows from what is.

The steps that ran left outputs, those that did not apply are noted, one may have failed. Which way a
`conditional` went is computed again from what it had before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

from pydantic import ValidationError

from connectors.errors import PenstockError
from flows.history.plans import PipelineShape, StepShape
from flows.history.recorded import Recorded
from flows.runtime.replaying import top_step
from flows.runtime.signals import SKIPPED
from transforms.contracts import StepEnvironment
from transforms.executions import UNSET, Executions
from transforms.expressions import compile_value, parse_path
from transforms.steps.conditional import ConditionalSettings, ConditionalStep

StepStatus = Literal["completed", "failed", "skipped", "waiting", "not_reached"]

_PROGRAMS = frozenset({"step.jq", "step.js", "step.python", "step.conditional"})
"""Types whose settings are programs: what they read is the execution, and no template is in them."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of one execution. Times are in seconds."""

    name: str
    type: str
    number: int
    status: StepStatus
    started_at: float | None = None
    seconds: float | None = None
    """What it took for all executions of the batch."""
    input: Any = UNSET
    """Its settings, with what its templates and paths came to."""
    output: Any = UNSET
    detail: Mapping[str, Any] | None = None
    """What `.steps.<name>` has beside its output: the status and headers of an answer."""
    error: PenstockError | None = None
    reason: str = ""
    """Why it was skipped, or not reached."""
    attempts: int = 0
    retries: Sequence[Mapping[str, Any]] = ()
    """Its failed tries that were followed by another."""
    routed_to: str | None = None
    """The step that a `conditional` jumped to."""
    idempotent: bool = False


def steps_of(recorded: Recorded) -> list[StepRecord]:
    """Return the steps of an execution's pipeline in their order, with what became of each."""
    shape = recorded.shape or _guessed(recorded)
    return list(_walk(recorded, shape))


_Context = Callable[[], dict[str, Any]]
"""Makes the execution's context, once for all of its steps."""


def _walk(recorded: Recorded, shape: PipelineShape) -> Iterator[StepRecord]:
    executions, index = recorded.executions, recorded.index
    stop, stopped = _stop(recorded), False
    context = cache(partial(executions.context, index))
    numbers = {step.name: number for number, step in enumerate(shape.steps)}
    jump: tuple[int, str] | None = None
    for number, step in enumerate(shape.steps):
        if stopped or stop == "":
            yield StepRecord(step.name, step.type, number, "not_reached", reason=_why(recorded))
            continue
        if jump is not None and number < jump[0]:
            reason = f"conditional routing from {jump[1]}"
            yield StepRecord(step.name, step.type, number, "skipped", reason=reason)
            continue
        record = _record(recorded, step, number, context)
        if step.name == stop:
            stopped = True
            yield _stopped(recorded, step, number, context)
            continue
        if record.status == "completed" and step.type == "step.conditional":
            to = _route(step, executions, index, numbers)
            if to is not None:
                jump = to, step.name
                routed = shape.steps[to].name if to < len(shape.steps) else None
                record = replace(record, routed_to=routed)
        yield record
        yield from _inside(recorded, step, number)
    if stop and not stopped and stop not in numbers:
        yield _stopped(recorded, StepShape(stop, ""), len(shape.steps), context)


def _stop(recorded: Recorded) -> str | None:
    """Return the step at which it failed or waits; "" before the first; None: it went through."""
    if recorded.status == "completed":
        return None
    step = recorded.step
    return "" if step is None else top_step(step)


def _why(recorded: Recorded) -> str:
    if recorded.duplicate is not None:
        return f"duplicate of {recorded.duplicate.original}"
    return {
        "failed": "the execution failed",
        "waiting": "the execution waits",
        "paused": "the execution is paused",
    }.get(recorded.status, "the execution was skipped")


def _record(recorded: Recorded, step: StepShape, number: int, context: _Context) -> StepRecord:
    """Return what became of a step that the execution came to and went past."""
    executions, index = recorded.executions, recorded.index
    passed = executions.passed_over.get(step.name, {})
    if index in passed and passed[index] is None:
        condition = "if" if step.if_ else "skip_if"
        return StepRecord(step.name, step.type, number, "skipped", reason=condition)
    error = passed.get(index)
    if error is not None and error.code == SKIPPED:
        reason = error.message.rstrip(".")
        return StepRecord(step.name, step.type, number, "skipped", reason=reason)
    retries = _retries(recorded, step.name)
    began, seconds = _times(executions, index, step.name)
    output = _at(executions.outputs, step.name, index, UNSET)
    return StepRecord(
        step.name,
        step.type,
        number,
        "completed" if error is None else "failed",
        started_at=began,
        seconds=seconds,
        input=_input(step, context),
        output=output,
        detail=_at(executions.details, step.name, index, None),
        error=error,
        reason="on_error: skip" if error is not None else "",
        attempts=len(retries) + 1,
        retries=retries,
        idempotent=bool(step.config.get("idempotent")),
    )


def _stopped(recorded: Recorded, step: StepShape, number: int, context: _Context) -> StepRecord:
    """Return what became of the step at which the execution failed, or for which it waits."""
    executions, index = recorded.executions, recorded.index
    retries = _retries(recorded, step.name)
    began, seconds = _times(executions, index, step.name)
    waits = recorded.parked is not None
    attempts = len(retries) + 1
    if recorded.parked is not None:
        attempts = recorded.parked.place.attempts
    return StepRecord(
        step.name,
        step.type,
        number,
        "waiting" if waits else "failed",
        started_at=began,
        seconds=seconds,
        input=_input(step, context),
        detail=_at(executions.details, step.name, index, None),
        error=recorded.error,
        attempts=attempts,
        retries=retries,
        idempotent=bool(step.config.get("idempotent")),
    )


def _inside(recorded: Recorded, step: StepShape, number: int) -> Iterator[StepRecord]:
    """Yield the steps inside one that leaves their outputs among those of the steps beside it."""
    executions, index = recorded.executions, recorded.index
    for each in list(step.every())[1:]:
        output = _at(executions.outputs, each.name, index, UNSET)
        if output is not UNSET:
            yield StepRecord(each.name, each.type, number, "completed", output=output, attempts=1)


def _retries(recorded: Recorded, step: str) -> list[Mapping[str, Any]]:
    return [each for each in recorded.tries if each["step"] == step and "after" in each]


def _times(executions: Executions, index: int, step: str) -> tuple[float | None, float | None]:
    before = executions.took_before.get(index, {})
    return executions.took.get(step) or before.get(step) or (None, None)


def _at(columns: Mapping[str, Any], name: str, index: int, absent: Any) -> Any:
    column = columns.get(name)
    return absent if column is None else column[index]


def _route(
    step: StepShape, executions: Executions, index: int, numbers: Mapping[str, int]
) -> int | None:
    """Return the number of the step that a conditional jumped to; None: to the next."""
    try:
        settings = ConditionalSettings.model_validate(dict(step.config))
        names = list(numbers)
        environment = StepEnvironment(
            flow="",
            pipeline=executions.pipeline,
            name=step.name,
            number=numbers[step.name],
            numbers=numbers,
            earlier=names,
        )
        jumps, failures = executions.jumps, executions.failures
        ConditionalStep(settings, environment).run(executions, [index])
    except (PenstockError, ValidationError, KeyError):
        return None  # as it is kept it can't be computed again
    failures.pop(index, None)
    return jumps.pop(index, None)


def _input(step: StepShape, context: _Context) -> Any:
    """Return a step's settings with its templates and paths put in; UNSET where nothing is known."""
    if not step.config:
        return UNSET
    if step.type in _PROGRAMS:
        return dict(step.config)
    found: dict[str, Any] = {}
    for name, value in step.config.items():
        try:
            if name.endswith("_from") and isinstance(value, str):
                found[name.removesuffix("_from")] = parse_path(value).get(context())
            else:
                found[name] = compile_value(value).render(context())
        except PenstockError:
            found[name] = value
    return found


def _guessed(recorded: Recorded) -> PipelineShape:
    """Return a pipeline of the steps that left anything: nothing else was kept of it."""
    executions, index = recorded.executions, recorded.index
    names = [n for n, column in executions.outputs.items() if column[index] is not UNSET]
    names += [step for step, found in executions.passed_over.items() if index in found]
    names += [top_step(recorded.step)] if recorded.step else []
    steps = tuple(StepShape(name, "") for name in dict.fromkeys(names))
    return PipelineShape(recorded.pipeline, steps=steps)
