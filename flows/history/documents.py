"""Executions as JSON: rows of a list, one in full, its timeline, its stream of events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from flows.history.events import (
    compensations,
    duration_of,
    error_document,
    events_of,
    trigger_data,
)
from flows.history.listing import Page
from flows.history.recorded import Recorded
from flows.history.steps import StepRecord, steps_of
from flows.state.jsontext import json_text
from flows.state.letter_documents import when
from flows.state.letters import change_text, event_text
from flows.state.signals import Signal
from transforms.executions import UNSET


def page_document(page: Page) -> dict[str, Any]:
    """Return a page of a list, for `orjson.dumps`."""
    return {"executions": list(map(row_document, page.executions)), "cursor": page.cursor}


def row_document(recorded: Recorded) -> dict[str, Any]:
    """Return what a list shows of an execution."""
    error = recorded.error
    if recorded.parked is not None and recorded.parked.error_code:
        told: dict[str, Any] | None = {
            "code": recorded.parked.error_code,
            "message": recorded.parked.error_message,
        }
    else:
        told = None if error is None else {"code": error.code, "message": error.message}
    return {
        "id": recorded.id,
        "pipeline": recorded.pipeline,
        "status": recorded.status,
        "tenant": recorded.tenant,
        "event_id": recorded.attribute("id"),
        "event_type": recorded.attribute("type"),
        "subject": recorded.attribute("subject"),
        "started_at": time_of(recorded.started_at),
        "completed_at": time_of(recorded.ended_at),
        "duration_ms": duration_of(recorded),
        "step": recorded.step,
        "error": told,
    }


def detail_document(recorded: Recorded) -> dict[str, Any]:
    """Return all that is kept of an execution, for `orjson.dumps`."""
    executions, index = recorded.executions, recorded.index
    batch = executions.events
    change = change_text(batch.column("change")[index])
    outputs = {
        name: exact(column[index])
        for name, column in executions.outputs.items()
        if column[index] is not UNSET
    }
    parked = recorded.parked
    duplicate = recorded.duplicate
    shown = row_document(recorded)
    error = error_document(recorded.error)
    if error is None and shown["error"] is not None:
        error = {**shown["error"], "kind": "retryable", "hint": ""}
    return {
        **shown,
        "error": error,
        "flow": recorded.flow,
        "flow_version": recorded.flow_version or None,
        "source": recorded.source,
        "partition": recorded.attribute("partition"),
        "position": recorded.attribute("position"),
        "key": recorded.attribute("key"),
        "event": orjson.Fragment(event_text(batch, index)),
        "change": None if change is None else orjson.Fragment(change),
        "outputs": outputs,
        "tries": list(recorded.tries),
        "due_at": None if parked is None else time_of(parked.place.due_at),
        "dead_letter": recorded.letter,
        "duplicate_of": None if duplicate is None else duplicate.original,
        "replay": recorded.replay,
        "compensation": exact(compensations(recorded)) if compensations(recorded) else None,
        "paused_at": None if parked is None else time_of(parked.place.paused_at),
        "signals": list(map(signal_document, recorded.signals)),
        "redacted": recorded.redacted,
        "batch": recorded.batch,
    }


def timeline_document(recorded: Recorded) -> dict[str, Any]:
    """Return an execution step by step, for `orjson.dumps`."""
    shape = recorded.shape
    metadata: dict[str, Any] = {
        "flow": recorded.flow,
        "flow_version": recorded.flow_version or None,
        "batch": recorded.batch,
    }
    if recorded.redacted:
        metadata["redacted"] = True
    if recorded.replay is not None:
        metadata["replay"] = recorded.replay
    if recorded.duplicate is not None:
        metadata["duplicate_of"] = recorded.duplicate.original
    if recorded.letter is not None:
        metadata["dead_letter"] = recorded.letter
    return {
        "execution_id": recorded.id,
        "pipeline": recorded.pipeline,
        "tenant": recorded.tenant,
        "status": recorded.status,
        "started_at": time_of(recorded.started_at),
        "completed_at": time_of(recorded.ended_at),
        "duration_ms": duration_of(recorded),
        "trigger": {
            "type": None if shape is None else shape.source_type,
            "module": recorded.source,
            **trigger_data(recorded),
        },
        "steps": list(map(step_document, steps_of(recorded))),
        "compensation": exact(compensations(recorded)),
        "signals": list(map(signal_document, recorded.signals)),
        "metadata": metadata,
    }


def signal_document(signal: Signal) -> dict[str, Any]:
    """Return what an operator asked of an execution, and what came of it."""
    return {
        "number": signal.number,
        "execution_id": signal.execution,
        "pipeline": signal.pipeline,
        "signal": signal.action,
        "requested_by": signal.requested_by,
        "requested_at": time_of(signal.requested_at),
        "reason": signal.reason or None,
        "status": signal.status,
        "ended_at": time_of(signal.ended_at),
        "note": signal.note or None,
    }


def step_document(step: StepRecord) -> dict[str, Any]:
    """Return one step of a timeline; what a step has not is left out."""
    shown: dict[str, Any] = {
        "name": step.name,
        "type": step.type or None,
        "status": step.status,
        "started_at": time_of(step.started_at),
        "duration_ms": None if step.seconds is None else round(step.seconds * 1000, 3),
        "attempts": step.attempts,
    }
    if step.status in {"skipped", "not_reached"}:
        shown |= {"started_at": None, "duration_ms": None}
    for name, value in (("input", step.input), ("output", step.output)):
        if value is not UNSET:
            shown[name] = exact(value)
    if step.detail:
        shown["detail"] = exact(step.detail)
    if step.error is not None:
        shown["error"] = error_document(step.error)
    if step.reason:
        shown["reason"] = step.reason
    if step.retries:
        shown["retries"] = [dict(each) for each in step.retries]
    if step.routed_to is not None:
        shown["routed_to"] = step.routed_to
    if step.idempotent:
        shown["idempotent"] = True
    return shown


def events_document(recorded: Recorded) -> dict[str, Any]:
    """Return an execution as its stream of events, for `orjson.dumps`."""
    return {
        "execution_id": recorded.id,
        "events": [
            {
                "sequence_num": each.sequence_num,
                "event_type": each.event_type,
                "event_data": _values(each.event_data),
                "created_at": time_of(each.at),
            }
            for each in events_of(recorded)
        ],
    }


def exact(value: Any) -> orjson.Fragment:
    """Return a value such that it is written with all its digits, whatever it is."""
    return orjson.Fragment(json_text(value))


def time_of(seconds: float | None) -> str | None:
    """Return a time as RFC 3339 in UTC."""
    return None if seconds is None else when(seconds)


def _values(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: exact(value) for name, value in data.items()}
