"""What a test file may say: a document with `tests:`, in a file of its own or behind a flow."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import Field, model_validator
from typing_extensions import Self

from connectors.settings import Jq, Settings

Outcome = Literal["done", "failed", "skipped", "not_triggered", "stopped"]
Kind = Literal["retryable", "permanent", "fatal"]
Operation = Literal["READ", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]


class EventInput(Settings):
    """An event as it comes from the source. Everything has a default that suits the source."""

    data: Any = None
    """Its data. A row's change has it from `before` and `after`, as the source's `output` says."""
    raw: str | None = None
    """Its data as text that may be no JSON, instead of `data`."""
    id: str | None = None
    """CloudEvents id; default: `event-1`, `event-2`, …"""
    source: str | None = None
    """CloudEvents source; default: one like the source module's."""
    type: str | None = None
    """CloudEvents type; default: what the source gives such events, else `test.event`."""
    subject: str | None = None
    """CloudEvents subject; of a row's change, its table."""
    time: str | None = None
    """CloudEvents time; default: 2026-01-01T00:00:00Z, and a second more with each event."""
    datacontenttype: str = "application/json"
    """CloudEvents datacontenttype."""
    dataschema: str | None = None
    """CloudEvents dataschema."""
    extensions: dict[str, str | int | bool] = Field(default={})
    """CloudEvents extension attributes, such as `tenant`."""
    key: str | None = None
    """Partition key."""
    operation: Operation | None = None
    """What a change did to its row; makes the event one of change data capture. Default: by which of
    `before` and `after` are there."""
    before: dict[str, Any] | None = None
    """The row before the change, or as much as the server sends of it."""
    after: dict[str, Any] | None = None
    """The row after the change."""
    table: str | None = None
    """`schema.table` of the row; default: the source's table, where it has only one."""

    @property
    def is_change(self) -> bool:
        """Whether it is a row's change."""
        return bool(self.model_fields_set & {"operation", "before", "after", "table"})

    @model_validator(mode="after")
    def _one_kind_of_data(self) -> Self:
        if self.raw is not None and "data" in self.model_fields_set:
            raise ValueError("data or raw, not both")
        if self.operation is None and self.is_change and self.before is None and self.after is None:
            raise ValueError("operation, or one of before and after, beside table")
        return self


class MockError(Settings):
    """The error that a mocked step fails with."""

    code: Annotated[str, MinLen(1)] = "mocked"
    """Its code; see the reference of error codes."""
    message: Annotated[str, MinLen(1)] = "the mock said so."
    """Its message."""
    kind: Kind = "permanent"
    """Whether it may pass later (`retryable`), never (`permanent`), or stops the worker (`fatal`)."""


class Mock(Settings):
    """What a step answers instead of being run."""

    output: Any = None
    """Its output."""
    expression: Jq | None = None
    """jq that makes the output from the execution's context, instead of `output`."""
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    """Of an http_call: the answer's status; one outside 2xx fails the event as it does in a run."""
    headers: dict[str, str] = Field(default={})
    """Of an http_call: the answer's headers."""
    error: MockError | None = None
    """The error it fails with."""

    @model_validator(mode="after")
    def _one_answer(self) -> Self:
        said = self.model_fields_set
        ways = [name for name in ("output", "expression", "error") if name in said]
        if len(ways) > 1:
            raise ValueError(f"one of output, expression and error; found {' and '.join(ways)}")
        if self.error is not None and said & {"status", "headers"}:
            raise ValueError("status and headers with an answer; an error has none")
        return self


class ErrorExpectation(Settings):
    """What an error must be; what is left out may be anything."""

    code: str | None = None
    """Its code."""
    kind: Kind | None = None
    """Its kind."""
    message: str | None = None
    """Its message."""
    message_contains: str | None = None
    """A part of its message."""


class DeadLetterExpectation(ErrorExpectation):
    """What a dead letter must be; what is left out may be anything."""

    step: str | None = None
    """The step it failed at (`outer.inner` for one inside another, `lines[0].charge` within a loop);
    null: before the first one, at the schema or the trigger."""
    event_id: str | None = None
    """CloudEvents id of the event."""
    compensated: list[str] | None = None
    """The steps that its saga has undone, in that order."""


class StepExpectation(Settings):
    """What a step must have done for an event; what is left out may be anything."""

    ran: bool | None = None
    """Whether it ran; not when `if`, a jump or an earlier failure left it out."""
    output: Any = None
    """Its output, exactly."""
    output_contains: Any = None
    """What its output must hold: objects may have more keys, everything else is compared exactly."""
    status: int | None = None
    """Of an http_call: the answer's status."""
    error: ErrorExpectation | None = None
    """The error that it failed with, also where `on_error: skip` went on."""


class PublishedExpectation(Settings):
    """What a published event must be; what is left out may be anything."""

    sink: str | None = None
    """The sink module."""
    topic: str | None = None
    """The topic: the step's, else the sink's."""
    step: str | None = None
    """The publish step."""
    type: str | None = None
    """CloudEvents type."""
    key: str | None = None
    """Partition key."""
    data: Any = None
    """Its data, exactly."""
    data_contains: Any = None
    """What its data must hold: objects may have more keys, everything else is compared exactly."""
    attributes: dict[str, Any] = Field(default={})
    """CloudEvents attributes it must have, among others."""
    headers: dict[str, str] = Field(default={})
    """Headers it must have, among others, where its sink sends attributes as headers."""


class Expectation(Settings):
    """What must have happened. Where nothing is said of it, that every event is done."""

    outcome: Outcome | list[Outcome] | None = None
    """How it ends, for every event or per event; default: done, where no dead letters are expected."""
    steps: dict[str, StepExpectation | list[StepExpectation]] = Field(default={})
    """Step → what it must have done, for every event or per event. Steps in branches are named like
    others; what happens within a loop is seen in its output."""
    published: list[PublishedExpectation] | None = None
    """The published events: all of them, in order."""
    dead_letters: list[DeadLetterExpectation] | None = None
    """The dead letters: all of them, in order."""
    stopped: ErrorExpectation | None = None
    """The error that stops the worker."""
    assert_: list[Jq] = Field(default=[], alias="assert")
    """jq programs that must be true of what happened: `.published`, `.dead_letters`, `.events`,
    `.steps` (of the first event), `.logs` and `.stopped`."""


class Case(Settings):
    """One case: events that come in, and what must happen."""

    name: Annotated[str, MinLen(1)]
    """What it shows; a sentence."""
    pipeline: str | None = None
    """The pipeline; default: the file's, else the flow's only one."""
    data: Any = None
    """The data of the one event that comes in."""
    event: EventInput | None = None
    """The one event that comes in."""
    events: Annotated[list[EventInput], MinLen(1)] | None = None
    """The events that come in, in one batch."""
    mocks: dict[str, Mock | list[Mock]] = Field(default={})
    """Step → what it answers, always or call by call; these win over the file's. A step inside another
    is `outer.inner`, what undoes a step in a saga `step.compensate`."""
    expect: Expectation = Expectation()
    """What must happen."""

    @property
    def inputs(self) -> list[EventInput]:
        """Return the events, however they are written."""
        if self.events is not None:
            return self.events
        return [self.event if self.event is not None else EventInput(data=self.data)]

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        ways = [name for name in ("data", "event", "events") if name in self.model_fields_set]
        if len(ways) != 1:
            raise ValueError(f"one of data, event and events; found {' and '.join(ways) or 'none'}")
        return self


class CasesFile(Settings):
    """Tests of a flow: `penstock test` runs them, with nothing connected."""

    flow: str | list[str] | None = None
    """The flow file, or the files it consists of, relative to this one; default: those on the command
    line, else the one this file is named after."""
    environment: dict[str, str] = Field(default={})
    """Values of the `${NAME}` in the flow, instead of the environment's."""
    pipeline: str | None = None
    """The pipeline of cases that name none."""
    mocks: dict[str, Mock | list[Mock]] = Field(default={})
    """Step → what it answers, in every case."""
    tests: Annotated[list[Case], MinLen(1)]
    """The cases."""
