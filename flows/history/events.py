"""An execution as a stream of events, in the order in which they happened.

    execution.started          step.started            step.input_recorded    step.output_recorded
    step.completed             step.failed             step.skipped           step.compensated
    conditional.routed         retry.attempted         saga.compensating      saga.compensated
    execution.completed        execution.failed        execution.cancelled
    signal.requested           signal.applied          signal.refused

They are made of what is recorded when somebody asks; nothing is written per event of this stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from connectors.errors import PenstockError
from flows.history.recorded import Recorded
from flows.history.steps import StepRecord, steps_of
from flows.runtime.signals import CANCELLED
from transforms.executions import UNSET

EventType = Literal[
    "execution.started",
    "step.started",
    "step.input_recorded",
    "step.output_recorded",
    "step.completed",
    "step.failed",
    "step.skipped",
    "step.compensated",
    "conditional.routed",
    "retry.attempted",
    "execution.completed",
    "execution.failed",
    "execution.cancelled",
    "saga.compensating",
    "saga.compensated",
    "signal.applied",
    "signal.refused",
    "signal.requested",
]


@dataclass(frozen=True, slots=True)
class ExecutionEvent:
    """One of them; `at` is in seconds since the epoch, None where it was not recorded."""

    sequence_num: int
    event_type: EventType
    event_data: Mapping[str, Any]
    at: float | None


_Made = tuple[EventType, dict[str, Any], "float | None"]


def events_of(recorded: Recorded) -> list[ExecutionEvent]:
    """Return the events of an execution."""
    made = list(_made(recorded, steps_of(recorded)))
    for each in _of_signals(recorded):
        at = each[2]
        # Before what happened later; where nothing says when, where it stands.
        later = (
            place
            for place, other in enumerate(made)
            if place and other[2] is not None and at is not None and other[2] > at
        )
        made.insert(next(later, len(made)), each)
    return [ExecutionEvent(number, *each) for number, each in enumerate(made, 1)]


def _made(recorded: Recorded, steps: list[StepRecord]) -> Iterator[_Made]:
    shape = recorded.shape
    yield (
        "execution.started",
        {
            "pipeline": recorded.pipeline,
            "trigger": None if shape is None else shape.source_type,
            "trigger_data": trigger_data(recorded),
            "tenant_id": recorded.tenant,
        },
        recorded.started_at,
    )
    for step in steps:
        yield from _of_step(step)
    yield from _of_saga(recorded)
    yield from _end(recorded, steps)


def _of_signals(recorded: Recorded) -> Iterator[_Made]:
    for signal in recorded.signals:
        told = {"signal": signal.action, "number": signal.number}
        asked = {**told, "by": signal.requested_by}
        if signal.reason:
            asked["reason"] = signal.reason
        yield "signal.requested", asked, signal.requested_at
        if signal.status != "waiting":
            kind: EventType = "signal.applied" if signal.status == "applied" else "signal.refused"
            yield kind, {**told, "note": signal.note}, signal.ended_at


def trigger_data(recorded: Recorded) -> dict[str, Any]:
    """Return what the event was, without its data."""
    names = ("id", "source", "type", "subject", "time", "partition", "position", "key")
    return {
        f"event_{name}" if name in {"id", "source", "type"} else name: recorded.attribute(name)
        for name in names
        if recorded.attribute(name) is not None
    }


def _of_step(step: StepRecord) -> Iterator[_Made]:
    named = {"step_name": step.name}
    if step.status == "not_reached":
        return
    if step.status == "skipped":
        yield "step.skipped", {**named, "reason": step.reason}, None
        return
    if step.status == "waiting" and not step.attempts:
        return
    began = step.started_at
    ended = None if began is None or step.seconds is None else began + step.seconds
    about = {**named, "step_type": step.type, "step_index": step.number}
    yield "step.started", about, _first(step) or began
    if step.input is not UNSET:
        yield "step.input_recorded", {**named, "input": step.input}, _first(step) or began
    for number, each in enumerate(step.retries, 1):
        told = {"code": each["code"], "message": each["message"]}
        yield (
            "retry.attempted",
            {**named, "attempt": number, "error": told, "delay_seconds": each["after"]},
            _seconds(str(each["at"])),
        )
    if step.status == "waiting":
        return
    duration = _milliseconds(step.seconds)
    if step.error is not None or step.status == "failed":
        failed = {
            **named,
            "error": error_document(step.error),
            "attempts": step.attempts,
            "duration_ms": duration,
        }
        yield "step.failed", failed | ({"reason": step.reason} if step.reason else {}), ended
        return
    if step.output is not UNSET:
        yield "step.output_recorded", {**named, "output": step.output}, ended
    if step.routed_to is not None:
        yield "conditional.routed", {**named, "to": step.routed_to}, ended
    yield "step.completed", {**named, "duration_ms": duration, "status": "completed"}, ended


def _of_saga(recorded: Recorded) -> Iterator[_Made]:
    undone = compensations(recorded)
    if not undone:
        return
    failed_at = None if recorded.saga is None else recorded.saga.failed_at
    yield "saga.compensating", {"step_name": recorded.step}, failed_at
    for each in undone:
        told = {"step_name": each["step"], **{k: v for k, v in each.items() if k != "step"}}
        yield "step.compensated", told, each.get("at")
    if all(each["status"] == "compensated" for each in undone):
        steps = [each["step"] for each in undone]
        yield "saga.compensated", {"steps": steps}, undone[-1].get("at")


def compensations(recorded: Recorded) -> list[dict[str, Any]]:
    """Return what its saga has undone, in that order: as it is by now, where that is kept."""
    if recorded.saga is not None:
        return recorded.saga.record()
    return list(recorded.executions.undone.get(recorded.index, []))


def _end(recorded: Recorded, steps: list[StepRecord]) -> Iterator[_Made]:
    if recorded.parked is not None:
        return
    duration = {"duration_ms": duration_of(recorded)}
    error = recorded.error
    if recorded.status == "failed":
        kind: EventType = "execution.failed"
        if error is not None and error.code == CANCELLED:
            kind = "execution.cancelled"
        failure = {"step_name": recorded.step, "error": error_document(error)}
        yield kind, {**failure, **duration}, recorded.ended_at
        return
    data: dict[str, Any] = {"status": recorded.status, **duration}
    if recorded.duplicate is not None:
        data["duplicate_of"] = recorded.duplicate.original
    result = next((s.output for s in reversed(steps) if s.output is not UNSET), UNSET)
    if result is not UNSET:
        data["output"] = result
    yield "execution.completed", data, recorded.ended_at


def error_document(error: PenstockError | None) -> dict[str, Any] | None:
    """Return an error for readers."""
    if error is None:
        return None
    return {"code": error.code, "kind": error.kind, "message": error.message, "hint": error.hint}


def duration_of(recorded: Recorded) -> float | None:
    """Return the milliseconds from an execution's first step to its end, waits included."""
    if recorded.started_at is None or recorded.ended_at is None:
        return None
    return _milliseconds(max(0.0, recorded.ended_at - recorded.started_at))


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _first(step: StepRecord) -> float | None:
    """Return when a step was tried first, where it was more than once."""
    return _seconds(str(step.retries[0]["at"])) if step.retries else None


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
