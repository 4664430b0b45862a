"""Sagas as JSON, and as text for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from flows.state.sagas import Saga, StepProgress, Undoing
from penstock.cli.amounts import show_age
from penstock.cli.output import print_table, printable
from transforms.executions import UNSET

_NEXT = {
    "running": "it goes on by itself; its event comes again after a crash",
    "compensating": "its compensations go on by themselves",
    "compensated": "all that it had done is undone; its event is a dead letter",
    "compensation_failed": "somebody must see to it: mend the cause, then `penstock saga retry ID`;"
    " or undo it by hand, then `penstock saga resolve ID --note …`",
    "retrying": "its compensations are tried again by the running flow, or when the flow runs",
    "resolved": "it was settled by hand",
}


def summary(flow: str, saga: Saga) -> dict[str, Any]:
    """Return what a list shows, JSON-able."""
    error = saga.error or {}
    return {
        "id": saga.id,
        "flow": flow,
        "pipeline": saga.pipeline,
        "status": saga.status,
        "event_id": saga.event_id,
        "event_type": saga.event_type,
        "key": saga.lane,
        "step": saga.step,
        "error": {name: error.get(name) for name in ("code", "kind", "message")} if error else None,
        "compensation_failed_at": saga.undoing_failed,
        "started_at": _when(saga.started_at),
        "failed_at": _when(saga.failed_at),
        "updated_at": _when(saga.updated_at),
        "note": saga.note,
    }


def detail(flow: str, saga: Saga) -> dict[str, Any]:
    """Return all of it, JSON-able."""
    return {
        **summary(flow, saga),
        "error": saga.error,
        "source": saga.source,
        "partition": saga.partition,
        "deadline": _when(saga.deadline),
        "attempts": saga.attempts,
        "dead_letter": None if saga.failed_at is None else saga.letter or saga.id,
        "steps": [_step(name, each) for name, each in saga.steps.items()],
        "next": _NEXT[saga.status],
    }


def print_list(found: Sequence[tuple[str, Saga]], now: float) -> None:
    """Print sagas as a table."""
    if not found:
        print("No sagas.")
        return
    print_table(
        ["STATUS", "PIPELINE", "FAILED AT", "ERROR", "KEY", "EVENT", ">CHANGED", "ID"],
        [
            (
                saga.status,
                saga.pipeline,
                saga.step or "-",
                (saga.error or {}).get("code", "-"),
                saga.lane or "-",
                saga.event_id,
                f"{show_age(now - saga.updated_at)} ago",
                saga.id,
            )
            for _, saga in found
        ],
    )


def print_saga(flow: str, saga: Saga) -> None:
    """Print all of a saga."""
    error = saga.error or {}
    facts = [
        ("saga", saga.id),
        ("flow", f"{flow}, pipeline {saga.pipeline}"),
        ("status", saga.status),
        ("event", f"{saga.event_id} ({saga.event_type})"),
        ("key", saga.lane or ""),
        ("started", _when(saga.started_at) or ""),
        ("deadline", _when(saga.deadline) or ""),
        ("failed", f"at step {saga.step}: {error.get('message')}" if error else ""),
        ("hint", error.get("hint", "")),
        ("note", saga.note or ""),
    ]
    for name, value in facts:
        if value:
            print(f"{name + ':':<10}{printable(value)}")
    print()
    print_table(
        ["STEP", "STATUS", "COMPENSATION", ">TRIES", "AT", "ERROR"],
        [_row(name, each) for name, each in saga.steps.items()],
    )
    print(f"\nnext: {_NEXT[saga.status]}")


def _row(name: str, step: StepProgress) -> tuple[str, ...]:
    status = f"{step.status}, may have taken effect" if step.unsure else step.status
    undoing = step.undoing
    if undoing is None:
        return name, status, "-", "-", _when(step.at) or "", ""
    said = (undoing.error or {}).get("message", "")
    return name, status, _shown(undoing), str(undoing.attempts), _when(undoing.at) or "", said


def _shown(undoing: Undoing) -> str:
    return {"done": "compensated", "again": "to be tried again"}.get(undoing.status, undoing.status)


def _step(name: str, step: StepProgress) -> dict[str, Any]:
    undoing = step.undoing
    shown: dict[str, Any] = {
        "step": name,
        "status": step.status,
        "may_have_taken_effect": step.unsure,
        "at": _when(step.at),
        "output": None if step.output is UNSET else _json_safe(step.output),
        "compensation": None,
    }
    if undoing is not None:
        shown["compensation"] = {
            "status": _shown(undoing),
            "attempts": undoing.attempts,
            "at": _when(undoing.at),
            "error": undoing.error,
            "output": None if undoing.output is UNSET else _json_safe(undoing.output),
        }
    return shown


def _json_safe(value: Any) -> Any:
    """Return a value that orjson takes: it has no integers beyond 64 bits."""
    import orjson  # noqa: PLC0415 - only for JSON

    return orjson.Fragment(json.dumps(value))


def _when(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    at = datetime.fromtimestamp(seconds, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
