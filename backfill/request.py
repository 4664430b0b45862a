"""What is asked of a backfill: one model for the command line, the API and the state store."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from typing_extensions import Self

from connectors.contracts import Window
from connectors.errors import FlowFileError
from connectors.settings import Rate, Settings
from flows.moments import parse_moment

Mode = Literal["dry_run", "shadow", "live"]


def _moment(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)  # as the state store has it
    return parse_moment(str(value), time.time())


Moment = Annotated[
    float,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "examples": ["2026-02-01T00:00:00Z", "7d"]}),
]


class BackfillRequest(Settings):
    """Which past events to run through a pipeline again, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)

    pipeline: str
    """The pipeline that they go through."""
    source: str | None = None
    """The source module whose past events they are; default: the pipeline's own."""
    from_: Moment = Field(alias="from")
    """The first time that is in the range: RFC 3339 (UTC where it names no zone), or `7d` (ago)."""
    to: Moment
    """The first time that no longer is."""
    filter: dict[str, Any] | str | None = None
    """Which of them: fields and what they must be, `{"event_type": "order.*", "data.total": {"$gte":
    100}}`, or jq over the event."""
    mode: Mode = "dry_run"
    """`dry_run`: nothing outside is changed; `shadow`: nor then, and each execution is compared with the
    recorded one; `live`: with all effects."""
    concurrency: Annotated[int, Ge(1)] | None = None
    """At most so many calls of a step at a time; default: what each step says."""
    rate_limit: Annotated[Rate, Gt(0)] | None = None
    """At most so many events, such as `100/s`."""
    offline: bool = False
    """Steps that ask something outside get the answer that is recorded of the same event."""
    respect_idempotency: bool = False
    """Live: what the pipeline's idempotency keys say was done is left out; else keys are the job's own."""
    ignore: tuple[str, ...] = ()
    """Shadow: paths whose differences count for nothing: `.processed_at`, or `shape.processed_at` of one
    step alone."""
    tolerance: Annotated[float, Ge(0.0)] = 0.0
    """Shadow: numbers that differ by no more than this, or by this part of them, are the same."""

    @model_validator(mode="after")
    def _fits_its_mode(self) -> Self:
        if self.mode == "live" and self.offline:
            raise ValueError("offline with dry_run or shadow: a live backfill has its effects")
        if self.mode != "live" and self.respect_idempotency:
            raise ValueError(
                "respect_idempotency with live: the other modes have no effect to repeat"
            )
        if self.mode != "shadow" and (self.ignore or self.tolerance):
            raise ValueError("ignore and tolerance with shadow: the other modes compare nothing")
        return self

    @property
    def window(self) -> Window:
        """Return the range in milliseconds. Raises FlowFileError `backfill_window`."""
        since, until = (int(at * 1000) for at in (self.from_, self.to))
        if until <= since:
            raise FlowFileError(
                "the range is empty: `to` is not after `from`.",
                code="backfill_window",
                hint="An event at `from` is in the range, one at `to` is not.",
            )
        return Window(since, until)

    def stored(self) -> dict[str, Any]:
        """Return it for the state store: times in seconds, so that `7d` means what it meant."""
        found: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        if self.rate_limit is not None:
            found["rate_limit"] = f"{self.rate_limit:f}/s"
        return found
