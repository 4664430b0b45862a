"""A saga: how far one execution of a pipeline with `saga:` has come, step by step. Plain records.

    running ──► (completed: forgotten)
       │
       ▼
    compensating ──► compensated
       │
       ▼
    compensation_failed ──► retrying ──► compensated, or compensation_failed again
       │
       ▼
    resolved (by hand)

Stored before each step that has an effect and after it, so that what comes again after a crash
finds what was done. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from flows.state.jsontext import json_text
from transforms.executions import UNSET

SagaStatus = Literal[
    "running", "compensating", "compensated", "compensation_failed", "retrying", "resolved"
]

UNFINISHED = ("running", "compensating")
"""Those whose event is in flight or waits, and comes again after a crash."""

Progress = Literal["started", "done", "again", "failed", "interrupted"]
"""How far a step is. again: it failed and will be tried again; interrupted: the worker died in the
middle of it, and it may not be run a second time."""


@dataclass(slots=True)
class Undoing:
    """The compensation of one step."""

    status: Progress
    attempts: int = 0
    at: float = 0.0
    """When the status last changed."""
    error: dict[str, Any] | None = None
    """Of the last try; see flows.state.errors."""
    output: Any = UNSET


@dataclass(slots=True)
class StepProgress:
    """One step that has an effect, or something that undoes it."""

    status: Progress
    unsure: bool = False
    """A try of it that did not succeed may have taken effect all the same."""
    at: float = 0.0
    output: Any = UNSET
    detail: dict[str, Any] | None = None
    """What `.steps.<name>` has beside its output."""
    undoing: Undoing | None = None

    @property
    def may_have_acted(self) -> bool:
        """Whether there is something to undo."""
        return self.status == "done" or self.unsure


@dataclass(slots=True)
class Saga:
    """One execution's saga."""

    id: str
    """The execution's id."""
    pipeline: str
    source: str
    partition: str
    lane: str | None
    event_id: str
    event_type: str
    started_at: float
    deadline: float | None
    status: SagaStatus = "running"
    step: str | None = None
    """The step at which it failed."""
    attempts: int = 1
    """Tries of that step."""
    error: dict[str, Any] | None = None
    """Why it failed; see flows.state.errors."""
    failed_at: float | None = None
    updated_at: float = 0.0
    note: str | None = None
    """What was written when it was resolved by hand."""
    letter: str | None = None
    """The dead letter that this is a replay of; None: its own has its id."""
    steps: dict[str, StepProgress] = field(default_factory=dict)
    body: bytes | None = None
    """The execution (flows.state.history): only of one that a person may have to see to."""

    def record(self) -> list[dict[str, Any]]:
        """Return its compensations in the order in which they were begun, for people."""
        begun = [(name, each.undoing) for name, each in self.steps.items() if each.undoing]
        begun.sort(key=lambda pair: pair[1].at)
        return [
            {
                "step": name,
                "status": "compensated" if undoing.status == "done" else undoing.status,
                "attempts": undoing.attempts,
                "at": undoing.at,
                **({"error": undoing.error} if undoing.error else {}),
                **({} if undoing.output is UNSET else {"output": undoing.output}),
            }
            for name, undoing in begun
        ]

    @property
    def undoing_failed(self) -> str | None:
        """The step whose compensation was given up."""
        for name, each in self.steps.items():
            if each.undoing is not None and each.undoing.status in {"failed", "interrupted"}:
                return name
        return None


def steps_text(saga: Saga) -> str:
    """Return the steps as JSON text."""
    shown: dict[str, Any] = {}
    for name, each in saga.steps.items():
        one: dict[str, Any] = {"status": each.status, "at": each.at}
        if each.unsure:
            one["unsure"] = True
        if each.output is not UNSET:
            one["output"] = each.output
        if each.detail:
            one["detail"] = each.detail
        undoing = each.undoing
        if undoing is not None:
            undone: dict[str, Any] = {
                "status": undoing.status,
                "attempts": undoing.attempts,
                "at": undoing.at,
            }
            one["undoing"] = undone
            if undoing.error:
                undone["error"] = undoing.error
            if undoing.output is not UNSET:
                undone["output"] = undoing.output
        shown[name] = one
    return json_text(shown).decode()


def steps_of(text: str) -> dict[str, StepProgress]:
    """Return the steps that `steps_text` has written; integers of any size stay exact."""
    found: dict[str, StepProgress] = {}
    for name, one in json.loads(text).items():
        undoing = one.get("undoing")
        found[name] = StepProgress(
            status=one["status"],
            unsure=one.get("unsure", False),
            at=one["at"],
            output=one.get("output", UNSET),
            detail=one.get("detail"),
            undoing=None
            if undoing is None
            else Undoing(
                undoing["status"],
                undoing["attempts"],
                undoing["at"],
                undoing.get("error"),
                undoing.get("output", UNSET),
            ),
        )
    return found
