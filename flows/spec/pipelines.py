"""Models of a flow file's `pipelines:`, key by key."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from typing_extensions import Self

from connectors.settings import Duration, Jq, Settings, Template

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_STEP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name of letters, digits, dots, hyphens and underscores")
    return value


def _check_step_name(value: str) -> str:
    if not _STEP_NAME.fullmatch(value):
        raise ValueError(
            "a name that starts with a letter and goes on with letters, digits, hyphens and "
            "underscores, so that .steps.<name> can be written"
        )
    return value


def _name_schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


Name = Annotated[str, AfterValidator(_check_name), _name_schema(_NAME.pattern)]
"""A name: letters, digits, dots, hyphens and underscores."""

StepName = Annotated[str, AfterValidator(_check_step_name), _name_schema(_STEP_NAME.pattern)]
"""A name that `.steps.<name>` can be written with."""


class Trigger(Settings):
    """Which events start the pipeline."""

    type: Literal["event"] = "event"
    """What starts it: an event."""
    source: str | None = None
    """Source module whose events start it; without one it is started by hand or API."""
    schema_: Annotated[str | None, Field(alias="schema")] = None
    """Schema that the events' data must fit: `name` or `name@version`."""
    event_type: Annotated[str, MinLen(1)] | None = None
    """Glob that the event's type must match, such as `public.orders.*`; default: every type."""
    when: Jq | None = None
    """jq that must be true for the event; default: every event."""


class ErrorCondition(Settings):
    """Errors that a jq program picks."""

    when: Jq
    """jq over `{code, kind, message, hint, status, context, attempts}` that must be true."""


_ERROR = re.compile(r"[a-z][a-z0-9_]*\*?|[1-5]xx|\*|[0-9A-Z]{5}")


def _check_error(value: str) -> str:
    if not _ERROR.fullmatch(value):
        raise ValueError(
            "a status (409, 5xx), an error's code (http_timeout, db_*), a SQLSTATE (40001), or "
            "{when: jq over the error}"
        )
    return value


ErrorCode = Annotated[str, AfterValidator(_check_error), _name_schema(_ERROR.pattern)]
"""A code such as `http_timeout`, the start of codes (`db_*`), a class of statuses (`5xx`), a SQLSTATE
(`40001`)."""


class Retry(Settings):
    """How often and when a failed step is tried again."""

    max_attempts: Annotated[int, Ge(1)] = 3
    """Attempts in all, the first one included."""
    backoff: Literal["exponential", "linear", "constant"] = "exponential"
    """How the delay grows from attempt to attempt."""
    initial_delay: Duration = 1.0
    """Delay before the second attempt."""
    max_delay: Duration = 30.0
    """Longest delay."""
    jitter: Annotated[float, Ge(0), Le(1)] = 0.2
    """Part of the delay that is left to chance: 0.2 is ±20 %."""
    max_parked: Annotated[int, Ge(1)] = 10_000
    """When so many executions wait for a retry, the source is not read any further."""
    retry_on: list[int | ErrorCode | ErrorCondition] = Field(default=[])
    """Errors that are tried again though they would not be: statuses of an answer (`409`, `4xx`), codes
    (`python_error`, `db_*`), SQLSTATEs (`"23505"`), or `{when: …}`, jq over the error."""
    permanent_on: list[int | ErrorCode | ErrorCondition] = Field(default=[])
    """Errors that are not tried again though they would be, written likewise; wins over `retry_on`."""


class DeadLetters(Settings):
    """What happens to events that fail for good."""

    enabled: bool = True
    """Keep them as dead letters; false stops the source at the failing event instead."""
    retention: Duration = 7 * 86400.0
    """How long dead letters are kept."""
    alert_threshold: Annotated[int, Ge(1)] | None = None
    """Warn in the log, once, when more dead letters than this wait."""
    replayable: bool = True
    """Whether they may be replayed."""
    sink: str | None = None
    """Sink module that gets a copy of each dead letter."""


class Idempotency(Settings):
    """Runs the pipeline once per key, however often an event comes."""

    key_template: Annotated[Template, MinLen(1)]
    """Key of an event, such as `order_{{ .id }}`."""
    ttl: Annotated[Duration, Ge(1)] = 86400.0
    """How long a key is remembered once its event is through."""
    store: Annotated[str, Field(pattern=r"^(state|rediss?://.+)$"), "secret"] = "state"
    """Where keys are kept: `state` (the state store) or a `redis://` URL."""
    lease: Annotated[Duration, Ge(1)] = 60.0
    """How long an event may hold its key without a sign of life from its worker, which prolongs it
    while it runs. When it is over, another event may have the key."""


class Saga(Settings):
    """Undoes the steps that are done when a later one fails."""

    enabled: bool = False
    """Run the steps' `compensate` when a step fails."""
    timeout: Duration | None = None
    """How long all steps may take together before the saga is undone."""
    compensation_order: Literal["reverse", "forward"] = "reverse"
    """Order in which completed steps are undone."""
    track_compensation: bool = True
    """Record each compensation in the execution's history."""


class Compensation(Settings):
    """The step that undoes a step."""

    type: str | None = None
    """Type of step, such as `step.http_call`."""
    use: str | None = None
    """Step module to use instead of a type."""
    config: dict[str, Any] = Field(default={})
    """The step's own settings; see its type."""
    retry: Retry | None = None
    """How often it is tried."""
    timeout: Duration | None = None
    """How long one attempt may take."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        _check_kind(self.type, self.use)
        return self


class Step(Settings):
    """One step of a pipeline: a `type` with its `config`, or `use: <step module>`."""

    name: StepName
    """The step's name, unique in its pipeline; later steps read `.steps.<name>.output`."""
    type: str | None = None
    """Type of step, such as `step.jq`."""
    use: str | None = None
    """Step module to use instead of a type; its config is the base of this step's."""
    config: dict[str, Any] = Field(default={})
    """The step's own settings; see its type."""
    if_: Annotated[Jq | None, Field(alias="if")] = None
    """jq: the step runs only for events for which this is true."""
    skip_if: Jq | None = None
    """jq: the step is passed over for events for which this is true; wins over `if`."""
    timeout: Annotated[Duration, Ge(0.01)] | None = None
    """How long one attempt may take for an event; only for steps that can be given up on, such as
    `step.http_call`."""
    retry: Retry | None = None
    """How often it is tried, instead of the pipeline's `retry`."""
    on_error: Literal["fail", "skip"] = "fail"
    """When it fails for good: `fail` ends the execution, `skip` records it and goes on."""
    compensate: Compensation | None = None
    """The step that undoes this one, in a saga."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        _check_kind(self.type, self.use)
        return self


def _check_kind(kind: str | None, use: str | None) -> None:
    if (kind is None) == (use is None):
        raise ValueError("either type, such as step.http_call, or use, the name of a step module")


class Pipeline(Settings):
    """What happens to events: a trigger and the steps each event goes through, in order."""

    trigger: Trigger | None = None
    """Which events start it; without one it is started by hand or API."""
    tenant: Jq | None = None
    """jq for the tenant of an event; default: its `tenant` attribute, else `default`."""
    key: Jq | None = None
    """jq for the key that order is kept by; default: the event's partition key."""
    order: Literal["key", "none", "partition"] = "key"
    """What waits behind an event that has to be tried again: its key, nothing, its partition."""
    partition_by: Jq | None = None
    """jq for the key by which events are spread over workers."""
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """`exactly_once`: outputs and positions in one Kafka transaction (from Kafka to the same
    cluster); what else steps do is at least once all the same."""
    timeout: Annotated[Duration, Ge(0.01)] | None = None
    """How long an execution may take, its waits between tries included; then it has failed."""
    retry: Retry | None = None
    """How often steps are tried, where they don't say."""
    dead_letter: DeadLetters = DeadLetters()
    """What happens to events that fail for good."""
    idempotency: Idempotency | None = None
    """Runs the pipeline once per key."""
    saga: Saga = Saga()
    """Undoes completed steps when a later one fails."""
    on_invalid: Literal["dead_letter", "skip", "pass"] = "dead_letter"
    """What happens to an event that does not fit the trigger's schema."""
    steps: Annotated[list[Step], MinLen(1)]
    """The steps, in order."""
