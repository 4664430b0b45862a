"""`step.publish`: hand events to a sink, and be done when it has confirmed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from connectors.batch import Column
from connectors.contracts import Attribute, Outgoing
from connectors.errors import PenstockError, PermanentError
from connectors.settings import Jq, Path, Template
from transforms.contracts import Step, StepEnvironment, StepType
from transforms.executions import UNSET, Ended, Executions
from transforms.expressions import compile_jq, compile_template
from transforms.expressions.values import to_text
from transforms.steps.envelope import Envelope
from transforms.steps.idempotent import OnlyIdempotentSettings
from transforms.steps.outbox import OutboxSettings, was_refused
from transforms.steps.payload import Payload


def _check_topic(value: str) -> str:
    if "{{" in value:
        raise ValueError("the name of a topic; a template can't be used here")
    return value


class PublishSettings(OnlyIdempotentSettings):
    """Configuration of `step.publish`."""

    sink: str | None = None
    """Sink module to publish to; default: the only one that can carry the topic."""
    topic: Annotated[str, AfterValidator(_check_topic)] | None = None
    """Topic, stream or queue within the sink; default: the sink's own."""
    schema_: str | None = Field(default=None, alias="schema")
    """Schema that the data must fit before it is published: `name` or `name@version`."""
    on_invalid: Literal["dead_letter", "skip", "pass"] = "dead_letter"
    """What happens to data that does not fit the schema: the execution fails, this step is passed over,
    or it is published all the same."""
    type: Template | None = None
    """CloudEvents type of what is published; default: the trigger's."""
    key: Jq | None = None
    """Partition key; default: the event's own."""
    data_from: Path | None = None
    """What is published; default: the output of the last step that has one, else the trigger's
    data."""
    outbox: OutboxSettings | None = None
    """Publish by way of a table that is written in the transaction of a `step.db_exec`: both happen,
    or neither."""

    @model_validator(mode="after")
    def _key_of_the_change(self) -> Self:
        if self.outbox is not None and self.idempotent:
            raise ValueError(
                f"idempotent: true on step {self.outbox.step}, which its outbox follows"
            )
        return self


class Composer:
    """Makes events of executions, as a publish step's settings say.

    The id of what is published is derived from the event, the pipeline and the step: a
    redelivery publishes the same id.
    """

    def __init__(self, settings: PublishSettings, env: StepEnvironment) -> None:
        self._topic = settings.topic
        schema = None if settings.on_invalid == "pass" else settings.schema_
        skips = settings.on_invalid == "skip"
        self._payload = Payload(settings.data_from, schema, env, skips=skips)
        self._name, self._redact = env.name, env.redact
        self._key = None if settings.key is None else compile_jq(settings.key)
        self._type = None if settings.type is None else compile_template(settings.type)
        self._envelope = Envelope(env.flow, env.pipeline, env.place)

    def compose(
        self, executions: Executions, indexes: Sequence[int]
    ) -> tuple[Sequence[int], Outgoing | None]:
        """Return the indexes that have an event, and their events; the others have failed."""
        failures = executions.failures
        before = len(failures)
        values, passed_on = self._payload.texts(executions, indexes)
        keys = self._keys(executions, indexes)
        event_type = self._types(executions, indexes)
        if executions.events.errors:  # noted when a column was made just now, not at the door
            unreadable = executions.events.errors
            failures.update({k: unreadable[k] for k in indexes if k in unreadable})
        left_out = self._payload.left_out
        if left_out:
            self._pass_over(executions, left_out)
        if len(failures) != before or left_out:
            places = [
                place
                for place, index in enumerate(indexes)
                if index not in failures and index not in left_out
            ]
            indexes = [indexes[place] for place in places]
            values = [values[place] for place in places]
            keys = [keys[place] for place in places]
            if isinstance(event_type, list):
                event_type = [event_type[place] for place in places]
        if not indexes:
            return indexes, None

        def attributes() -> Mapping[str, Attribute]:
            return self._envelope.attributes(
                executions, indexes, keys, event_type, passed_on=passed_on
            )

        return indexes, Outgoing(values, keys, attributes, self._topic)

    def _pass_over(self, executions: Executions, left_out: Mapping[int, PenstockError]) -> None:
        """Note that the step did nothing for these, and why; they go on."""
        for error in left_out.values():
            error.mask(self._redact)
        executions.passed_over.setdefault(self._name, {}).update(left_out)

    def _keys(self, executions: Executions, indexes: Sequence[int]) -> Column:
        if self._key is None:
            return executions.picked(executions.key_column(), indexes)
        values, errors = self._key.column(executions, indexes)
        executions.failures.update(errors)
        return [v if v is None or isinstance(v, str) else to_text(v) for v in values]

    def _types(self, executions: Executions, indexes: Sequence[int]) -> str | Column | None:
        """Return the type for all, one per event, or None for the trigger's."""
        if self._type is None or self._type.constant is not None:
            return None if self._type is None else self._type.constant
        types, errors = self._type.column(executions, indexes, required=True)
        executions.failures.update(errors)
        return types


class PublishStep:
    """Delivers a batch to its sink and blocks until each event is confirmed or has failed."""

    has_output = False

    def __init__(self, settings: PublishSettings, env: StepEnvironment) -> None:
        assert settings.sink is not None  # noqa: S101 - resolved when the flow was loaded
        self._sink = env.sinks[settings.sink]
        self._compose = Composer(settings, env).compose

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Deliver; what can't be sent, and what the sink does not take, fails."""
        indexes, outgoing = self._compose(executions, indexes)
        if outgoing is not None:
            for place, error in self._sink.deliver(outgoing).items():
                executions.failures[indexes[place]] = error
        return []

    def close(self) -> None:
        """Nothing is held: the runtime closes the sink."""


class OutboxPublishStep:
    """Has nothing left to do: its events are in the outbox, since the step before was committed.

    But an event may have been refused on its way out of there. When its dead letter is replayed, this
    delivers it, and that is all: the rest of its execution is done.
    """

    has_output = False

    def __init__(self, name: str, changed_by: str, delivery: PublishStep, *, relayed: bool) -> None:
        """Not `relayed`: there is no outbox here, and `delivery` takes every event."""
        self._name = name
        self._changed_by = changed_by
        self._delivery = delivery
        self._relayed = relayed

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Deliver what was refused before."""
        if executions.replays:
            again = [k for k in indexes if was_refused(executions, self._name, k)]
            if again:
                self._delivery.run(executions, again)
                for index in again:
                    if index not in executions.failures:
                        executions.end(index, Ended("repeated"))
                indexes = [k for k in indexes if k not in again]
        if self._relayed:
            self._check(executions, indexes)
        elif indexes:
            self._delivery.run(executions, indexes)
        return []

    def _check(self, executions: Executions, indexes: Sequence[int]) -> None:
        """Fail those for which the step before did not run: nothing of theirs was written."""
        outputs = executions.outputs.get(self._changed_by)
        for index in indexes:
            if outputs is None or outputs[index] is UNSET:
                executions.failures[index] = PermanentError(
                    f"step {self._changed_by} did not run, and the event would have been published"
                    " by its transaction.",
                    code="outbox_without_change",
                    hint=f"Let what leads past {self._changed_by} lead past this step too.",
                )

    def close(self) -> None:
        """Nothing is held."""


def _make(settings: PublishSettings, env: StepEnvironment) -> Step:
    delivery = PublishStep(settings, env)
    if settings.outbox is None:
        return delivery
    return OutboxPublishStep(env.name, settings.outbox.step, delivery, relayed=env.relayed)


PUBLISH = StepType(
    "step.publish",
    PublishSettings,
    "Publish to a sink; done when it has confirmed.",
    make=_make,
    effect=True,
    has_output=False,
)
