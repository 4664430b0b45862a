"""What routes take in their query and body, name by name."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_validator,
)
from typing_extensions import Self

from connectors.settings import Rate, Settings
from dlq.selection import Selection
from flows.history.listing import ExecutionFilter
from flows.moments import parse_moment
from flows.state.letter_filter import LetterFilter
from transforms.expressions import ExpressionError, compile_jq

Limit = Annotated[int, Ge(1), Le(1000)]


def _moment(value: Any) -> float:
    return parse_moment(str(value), time.time())


def _jq(value: str) -> str:
    try:
        compile_jq(value)
    except ExpressionError as error:
        raise ValueError(f"a jq program: {error.message.rstrip('.')}") from None
    return value


Moment = Annotated[
    float,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "examples": ["2h", "2026-11-21T08:00:00Z"]}),
]
Jq = Annotated[str, AfterValidator(_jq)]


class PageQuery(Settings):
    """A page of a list."""

    limit: Limit = 50
    """How many at most."""
    cursor: str | None = None
    """Go on where a page ended: what it gave as `cursor`."""


class ParkedQuery(PageQuery):
    """Which parked executions."""

    pipeline: str | None = None
    """Only this pipeline's."""


class Facts(Settings):
    """Which dead letters: those that have all of this."""

    step: str | None = None
    """Failed at this step."""
    error: str | None = None
    """Failed with this error code."""
    type: str | None = None
    """The event's type, a glob: `public.orders.*`."""
    tenant: str | None = None
    """This tenant's."""
    since: Moment | None = None
    """Failed last at or after: `2h` (ago) or an RFC 3339 time."""
    until: Moment | None = None
    """Failed last before: `30m` (ago) or an RFC 3339 time."""

    def wanted(self, flow: str, pipeline: str | None, status: str | None = None) -> LetterFilter:
        """Return what is meant."""
        return LetterFilter(
            flow=flow,
            pipeline=pipeline,
            step=self.step,
            error_code=self.error,
            event_type=self.type,
            tenant=self.tenant,
            since=self.since,
            until=self.until,
            status=status,
        )


class Conditions(Facts):
    """Which dead letters, by what their events hold, too."""

    where: Jq | None = None
    """jq over the event that must be true, such as `.data.total > 100`."""

    def selection(self, flow: str, pipeline: str | None, status: str | None = None) -> Selection:
        """Return what is meant."""
        return Selection(self.wanted(flow, pipeline, status), self.where)


class StatsQuery(Conditions):
    """What to count."""

    pipeline: str | None = None
    """Only this pipeline's."""


class LettersQuery(PageQuery, Conditions):
    """A page of a pipeline's dead letters."""

    status: Literal["waiting", "replaying"] | None = None
    """Only those that wait, or that are being replayed."""


class ExecutionsQuery(PageQuery):
    """Which executions: those that have all of this."""

    pipeline: str | None = None
    """This pipeline's."""
    status: Literal["completed", "failed", "skipped", "waiting", "paused"] | None = None
    """Of this status; without it, all that have ended."""
    error: str | None = None
    """Failed with this error code."""
    type: str | None = None
    """The event's type, a glob: `public.orders.*`."""
    subject: str | None = None
    """What the event is about, a glob."""
    tenant: str | None = None
    """This tenant's."""
    since: Moment | None = None
    """Ended at or after: `2h` (ago) or an RFC 3339 time."""
    until: Moment | None = None
    """Ended before: `30m` (ago) or an RFC 3339 time."""
    where: Jq | None = None
    """jq over the event that must be true, such as `.data.total > 100`."""

    def wanted(self, flow: str) -> ExecutionFilter:
        """Return what is meant."""
        return ExecutionFilter(
            flow,
            pipeline=self.pipeline,
            status=self.status,
            error_code=self.error,
            event_type=self.type,
            subject=self.subject,
            tenant=self.tenant,
            since=self.since,
            until=self.until,
            where=self.where,
        )


class DiffQuery(Settings):
    """Which two executions to compare."""

    left: str
    """The id of one, or the start of it."""
    right: str
    """The id of the other, or the start of it."""


class DiscardQuery(Settings):
    """How to discard."""

    purge: bool = False
    """Delete it without an archive."""


class ReplayBody(Settings):
    """How to replay."""

    edit: Jq | None = None
    """jq that each event's data goes through first; the original is kept."""
    rate: Annotated[Rate, Gt(0)] | None = None
    """At most so many, such as `50/s`."""
    from_step: bool = False
    """Go on at the step that failed, with the outputs so far, instead of the first."""


class ExecutionReplayBody(Settings):
    """How to run an execution again."""

    mode: Literal["exact", "modified", "step_from"] = "exact"
    """`exact`: its event as it came; `modified`: with `edit`; `step_from`: from `from_step` on."""
    edit: Jq | None = None
    """Of `modified`: jq that the event's data goes through first."""
    from_step: str | None = None
    """Of `step_from`: the step it goes on with; those before it have put out what was recorded."""
    record_as: Literal["replay"] = "replay"
    """How the new execution is recorded: it says which replay it is."""

    @model_validator(mode="after")
    def _what_the_mode_needs(self) -> Self:
        if (self.mode == "modified") != (self.edit is not None):
            raise ValueError("edit with mode modified, and with no other")
        if (self.mode == "step_from") != (self.from_step is not None):
            raise ValueError("from_step with mode step_from, and with no other")
        return self


class ReplayAllBody(ReplayBody, Conditions):
    """Which dead letters of a pipeline to replay, and how; without conditions, all."""


class SignalBody(Settings):
    """Why something is asked of an execution."""

    reason: str = ""
    """Kept with the execution."""


class SkipBody(SignalBody):
    """What to skip."""

    execution: bool = False
    """All that is left of it; else its next step."""


class TriggerBody(Settings):
    """The event that starts a pipeline."""

    pipeline: str
    """The pipeline's name."""
    data: Any
    """The event's data."""
    type: str | None = None
    """The event's type; without it the trigger's `event_type`, else `penstock.trigger`."""
    key: str | None = None
    """Its partition key."""
    subject: str | None = None
    """What it is about."""
    id: str | None = None
    """Its id; else one is made."""
    idempotency_key: Annotated[
        str | None, Field(validation_alias=AliasChoices("idempotency_key", "idempotencyKey"))
    ] = None
    """The same key again, for the pipeline, starts nothing (`idempotencyKey` is understood too)."""


class LiveQuery(Settings):
    """Which executions to watch."""

    pipeline: str | None = None
    """This pipeline's."""
    tenant: str | None = None
    """This tenant's."""
