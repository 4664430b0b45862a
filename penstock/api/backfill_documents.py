"""What the API answers of backfills, field by field. Times are RFC 3339 in UTC."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from connectors.settings import Settings


class BackfillErrorDocument(Settings):
    """Why a backfill failed."""

    code: str
    """Its stable code."""
    message: str
    """What happened."""
    hint: str
    """What to do."""


class BackfillDocument(Settings):
    """A backfill: what was asked for, and how far it is."""

    id: int
    """Its number."""
    flow: str
    """Its flow."""
    pipeline: str
    """The pipeline that the events go through."""
    source: str
    """The source module whose past events they are."""
    mode: Literal["dry_run", "shadow", "live"]
    """What becomes of effects."""
    status: Literal["waiting", "running", "interrupted", "paused", "cancelled", "failed", "done"]
    """How it is; `interrupted`: its process is gone, and it can be resumed."""
    from_: str = Field(alias="from")
    """The first time that is in the range."""
    to: str
    """The first time that no longer is."""
    filter: dict[str, Any] | str | None
    """Which events: fields and what they must be, or jq."""
    concurrency: int | None
    """Calls of a step at a time, at the most."""
    rate_limit: str | None
    """Events per second, at the most."""
    offline: bool
    """Whether steps that ask outside are answered from history."""
    respect_idempotency: bool
    """Whether the pipeline's own idempotency keys count."""
    with_: list[str] = Field(alias="with")
    """The flow files that the pipeline is taken from, where those are others."""
    events: int
    """Events read so far."""
    expected_events: int | None
    """Events that there are, as far as known."""
    events_per_second: float | None
    """Read, since it was started."""
    seconds_left: float | None
    """Until its end, at this rate."""
    requested_by: str
    """Who asked for it."""
    created_at: str
    """When."""
    started_at: str | None
    """When its first process began."""
    ended_at: str | None
    """When its last process ended."""
    error: BackfillErrorDocument | None
    """Why it failed."""


class BackfillsDocument(Settings):
    """A page of backfills, newest first."""

    backfills: list[BackfillDocument]
    """The backfills."""
    cursor: str | None
    """Asks for the next page; null at the end."""


class FailureGroupDocument(Settings):
    """Executions that failed alike."""

    step: str | None
    """The step; null: before the first."""
    code: str
    """The error's code."""
    count: int
    """How many."""
    samples: list[dict[str, Any]]
    """A few: execution, event_id, time, message."""


class ComparedStepDocument(Settings):
    """How a step's outputs compare with the recorded ones."""

    step: str
    """The step."""
    identical: int
    """As recorded."""
    different: int
    """Another output."""
    missing: int
    """Recorded, and not run now."""
    new: int
    """Run now, and not recorded."""


class DifferenceGroupDocument(Settings):
    """Executions in which a step differs from the recorded one in the same way."""

    step: str
    """The step."""
    kind: Literal["different", "missing", "new"]
    """How it differs."""
    shape: list[str]
    """What differs, place by place."""
    count: int
    """How many."""
    samples: list[dict[str, Any]]
    """A few: execution, event_id, time, and what was recorded beside what is now."""


class ComparisonDocument(Settings):
    """What a shadow has compared."""

    executions: dict[str, int]
    """identical, different, missing, new, and duplicate: recorded as such, and not compared."""
    steps: list[ComparedStepDocument]
    """Step by step: their outputs."""
    published: list[ComparedStepDocument]
    """Publish step by publish step: the events, with key, topic and attributes."""
    groups: list[DifferenceGroupDocument]
    """What differs, the most frequent first."""
    ungrouped: int
    """Differences of more kinds than are told apart."""
    versions: list[str]
    """Versions of the flow that what is compared with was recorded by."""


class BackfillFindingsDocument(Settings):
    """What a backfill has found so far."""

    read: int
    """Events of the range."""
    left_out: int
    """By the filter."""
    not_triggered: int
    """That the pipeline's trigger does not take."""
    done: int
    """Executions that went through."""
    failed: int
    """Executions that failed; in a live backfill they are dead letters."""
    skipped: int
    """Executions that were left out by the flow."""
    reached_effect: int
    """Executions that came to an effect whose result nobody knows, and ended there."""
    effects_held_back: dict[str, int]
    """Step → effects that it would have had."""
    answered_from_history: dict[str, int]
    """Step → times that it was answered from history."""
    failures: list[FailureGroupDocument]
    """What failed, the most frequent first."""
    comparison: ComparisonDocument | None
    """Of a shadow."""


class BackfillReportDocument(Settings):
    """A backfill and what it has found so far."""

    backfill: BackfillDocument
    """What was asked for, and how far it is."""
    report: BackfillFindingsDocument
    """What it has found."""
