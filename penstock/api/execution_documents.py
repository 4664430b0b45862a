"""What the routes of executions answer with, field by field. Times are RFC 3339 in UTC."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from connectors.settings import Settings
from penstock.api.documents import ParkedErrorDocument, TryDocument


class ExecutionDocument(Settings):
    """An execution: an event's way through a pipeline."""

    id: str
    """Its id."""
    pipeline: str
    """Its pipeline."""
    status: Literal["completed", "failed", "skipped", "waiting", "paused"]
    """How it ended; `waiting`: it is parked; `paused`: so by an operator."""
    tenant: str
    """The event's tenant."""
    event_id: str | None
    """The event's id."""
    event_type: str | None
    """The event's type."""
    subject: str | None
    """What the event is about."""
    started_at: str | None
    """When it began; null where that is not known, or it has not."""
    completed_at: str | None
    """When it ended; null while it waits."""
    duration_ms: float | None
    """What it took in milliseconds, waits included."""
    step: str | None
    """Where it failed, or what it waits for."""
    error: ParkedErrorDocument | None
    """Why it failed, or what it waits after; null where it has not failed."""


class ExecutionsDocument(Settings):
    """A page of executions, those that ended last first."""

    executions: list[ExecutionDocument]
    """The executions."""
    cursor: str | None
    """Pass it on as `cursor` for the next page; null at the end."""


class ExecutionErrorDocument(ParkedErrorDocument):
    """Why an execution or one of its steps failed."""

    kind: str
    """`permanent`, `retryable`: whether it could have passed later."""
    hint: str
    """What to do."""


class SignalDocument(Settings):
    """What an operator asked of an execution, and what came of it."""

    number: int
    """Its number."""
    execution_id: str
    """The execution."""
    pipeline: str | None
    """Its pipeline; null where no row of the state store tells yet."""
    signal: Literal["pause", "resume", "retry", "skip", "skip_execution", "cancel"]
    """What was asked: `skip` is of the step that it has come to."""
    requested_by: str
    """Who asked."""
    requested_at: str
    """When."""
    reason: str | None
    """Why, where that was said."""
    status: Literal["waiting", "applied", "refused"]
    """`waiting`: no worker has obeyed it yet."""
    ended_at: str | None
    """When it was obeyed, or refused."""
    note: str | None
    """Where it took effect, or why it did not."""


class ExecutionDetailDocument(ExecutionDocument):
    """All that is kept of an execution. What came as JSON is given digit for digit."""

    error: ExecutionErrorDocument | None
    """Why it failed, or what it waits after."""
    flow: str
    """Its flow."""
    flow_version: str | None
    """The flow's version when it ended; null while it waits."""
    source: str
    """The source module of its event."""
    partition: str | None
    """The source partition."""
    position: str | None
    """The event's position in it."""
    key: str | None
    """The event's partition key."""
    event: dict[str, Any]
    """The CloudEvent."""
    change: dict[str, Any] | None
    """Of a row: operation, before, after."""
    outputs: dict[str, Any]
    """Of the steps that have put out anything."""
    tries: list[TryDocument]
    """The tries that failed, with their times."""
    due_at: str | None
    """When one that waits goes on, at the earliest."""
    dead_letter: str | None
    """The id of its dead letter, where it is one now."""
    duplicate_of: str | None
    """The execution whose work it would have done again."""
    replay: str | None
    """Which replay of its event it is; null for the first run."""
    compensation: list[Any] | None
    """What its saga has undone, in that order."""
    paused_at: str | None
    """Since when an operator holds it."""
    signals: list[SignalDocument]
    """What operators have asked of it, oldest first."""
    redacted: bool
    """Whether something of it was masked before it was recorded (`history.redact`)."""
    batch: int
    """How many executions were settled together with it, itself included."""


class TimelineStepDocument(Settings):
    """One step of an execution. What it has not is left out."""

    name: str
    """Its name."""
    type: str | None
    """Its type, such as `step.http_call`; null where the flow of then is not known."""
    status: Literal["completed", "failed", "skipped", "waiting", "not_reached"]
    """What became of it."""
    started_at: str | None
    """When it began; null where it did not run, or that was not recorded."""
    duration_ms: float | None
    """What it took, in milliseconds, for all executions of the batch."""
    attempts: int
    """How often it was tried."""
    input: Any = None
    """Its settings, with what its templates and paths came to; secrets are masked."""
    output: Any = None
    """What it put out."""
    detail: dict[str, Any] | None = None
    """What it has beside its output, such as `status` and `headers` of an answer."""
    error: ExecutionErrorDocument | None = None
    """Why it failed."""
    reason: str = ""
    """Why it was skipped, or not reached."""
    retries: list[TryDocument] = Field(default=[])
    """Its failed tries that were followed by another."""
    routed_to: str | None = None
    """The step that it jumped to."""
    idempotent: bool = False
    """Whether it acts once per key."""


class TimelineDocument(Settings):
    """An execution step by step."""

    execution_id: str
    """Its id."""
    pipeline: str
    """Its pipeline."""
    tenant: str
    """The event's tenant."""
    status: Literal["completed", "failed", "skipped", "waiting", "paused"]
    """How it ended."""
    started_at: str | None
    """When it began."""
    completed_at: str | None
    """When it ended."""
    duration_ms: float | None
    """What it took in milliseconds, waits included."""
    trigger: dict[str, Any]
    """The source's type and module, and the event without its data."""
    steps: list[TimelineStepDocument]
    """The pipeline's steps in their order."""
    compensation: list[Any]
    """What its saga has undone, in that order."""
    signals: list[SignalDocument]
    """What operators have asked of it, oldest first."""
    metadata: dict[str, Any]
    """The flow and its version; the size of its batch; its dead letter, or what it is a duplicate of."""


class ExecutionEventDocument(Settings):
    """One event of an execution's stream."""

    sequence_num: int
    """Its number, from 1."""
    event_type: str
    """What happened: `execution.started`, `step.completed`, …"""
    event_data: dict[str, Any]
    """What is known of it."""
    created_at: str | None
    """When it happened; null where that was not recorded."""


class ExecutionEventsDocument(Settings):
    """An execution as a stream of events."""

    execution_id: str
    """Its id."""
    events: list[ExecutionEventDocument]
    """The events, in the order in which they happened."""


class DiffSummaryDocument(Settings):
    """How two executions differ, in short."""

    left_status: str
    """How the left one ended."""
    right_status: str
    """How the right one ended."""
    left_duration_ms: float | None
    """What the left one took."""
    right_duration_ms: float | None
    """What the right one took."""
    steps_different: int
    """Steps that differ."""
    steps_identical: int
    """Steps that do not."""
    event_identical: bool
    """Whether both had the same data."""


class StepDiffDocument(Settings):
    """One step of both. What does not apply is left out."""

    step: str
    """Its name."""
    status: str
    """`identical`, `output_different`, `error_different`, `status_different`, or of a side:
    `left_failed`, `right_skipped`, `right_not_reached`, `left_missing`, …"""
    left_duration_ms: float | None = None
    """What it took on the left."""
    right_duration_ms: float | None = None
    """What it took on the right."""
    left_output: Any = None
    """What it put out on the left."""
    right_output: Any = None
    """What it put out on the right."""
    left_error: ExecutionErrorDocument | None = None
    """Why it failed on the left."""
    right_error: ExecutionErrorDocument | None = None
    """Why it failed on the right."""
    diff: dict[str, Any] = Field(default={})
    """Path → {left, right} of what differs in the outputs."""
    reason: str = ""
    """Why a side did not run it."""


class DiffDocument(Settings):
    """Two executions side by side."""

    left: str
    """The id of the left one."""
    right: str
    """The id of the right one."""
    summary: DiffSummaryDocument
    """In short."""
    event_diff: dict[str, Any]
    """Path → {left, right} of what differs in the events' data."""
    step_diffs: list[StepDiffDocument]
    """Step by step."""
