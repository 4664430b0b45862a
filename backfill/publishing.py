"""What publish steps make of an execution: as it was recorded, and now.

History keeps no event that was published. It keeps what one is made of: the event, the outputs of the steps
and, per version of the flow, the settings of its steps. So what was published then is composed again by the
settings of then, and compared with what is composed now. A step whose settings are the same makes the same
of the same: then it is composed only of executions in which anything else differs.

Publish steps inside other steps are not compared: whether they ran then can't be told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import ValidationError

from backfill.originals import Chunk
from connectors.contracts import Attribute, Outgoing
from connectors.errors import PenstockError
from flows.history.plans import PipelineShape, StepShape, pipeline_shape, shape_of
from flows.plan import FlowPlan, PipelinePlan
from flows.runtime.replaying import top_step
from flows.state.contracts import StateStore
from transforms.contracts import StepEnvironment
from transforms.executions import Executions
from transforms.steps.conditional import ConditionalSettings, ConditionalStep
from transforms.steps.publish import Composer, PublishSettings

Json = dict[str, Any]

_NOT_COMPOSED = frozenset({"schema", "on_invalid", "outbox", "idempotent", "idempotency_key"})
"""Settings that say which data may be published, and how it is delivered."""


@dataclass(frozen=True, slots=True)
class Published:
    """An event as a publish step hands it over."""

    about: Json
    """Where it goes, its key and its attributes, from which its headers are made."""
    value: bytes | None

    def document(self) -> Json:
        """Return it as one JSON value."""
        return {**self.about, "data": None if self.value is None else orjson.loads(self.value)}


@dataclass(frozen=True, slots=True)
class PublishStep:
    """A publish step of one version of a pipeline."""

    name: str
    sink: Json
    """What is known of where it publishes to; {}: nothing."""
    signature: bytes
    """The same in two versions whose steps publish the same of the same executions."""
    compose: Callable[[Executions, Sequence[int]], tuple[Sequence[int], Outgoing | None]]
    came: Callable[[Executions, Sequence[int]], list[int]]
    """Returns which recorded executions have come to it, and through."""

    def events(
        self, executions: Executions, indexes: Sequence[int], sink: Json
    ) -> dict[int, Published]:
        """Return index → what is published of it; those of which nothing can be made are left out."""
        if not indexes:
            return {}
        view = replace(executions, failures={}, passed_over={}, encoded=dict(executions.encoded))
        composed, outgoing = self.compose(view, indexes)
        if outgoing is None:
            return {}
        attributes = outgoing.attributes()
        if outgoing.topic is not None:
            sink = {**sink, "topic": outgoing.topic}
        rows = zip(composed, outgoing.keys, outgoing.values, strict=True)
        return {
            index: Published({**sink, "key": key, "attributes": _at(attributes, place)}, value)
            for place, (index, key, value) in enumerate(rows)
        }


class Publishing:
    """The publish steps of a pipeline, now and in the versions that executions were recorded by."""

    def __init__(self, plan: FlowPlan, pipeline: PipelinePlan, store: StateStore) -> None:
        self._plan = plan
        self._pipeline = pipeline.name
        self._store = store
        self._now = self._steps(pipeline_shape(plan, pipeline))
        self._versions: dict[str, Mapping[str, PublishStep | None]] = {}
        self.ran: dict[str, set[int]] = {}
        """Step → the executions of the batch at hand that it has composed an event of."""

    def compare(
        self,
        executions: Executions,
        chunk: Chunk,
        places: Mapping[int, int],
        different: Collection[int],
        counts: Callable[[str], Counter[str]],
    ) -> Iterator[tuple[str, int, Published | None, Published | None]]:
        """Yield step, index, what was published and what is now, wherever these may differ.

        `places`: index → where in the chunk its recorded execution is. `different`: those that differ in
        other ways. What can't differ is added to the step's `counts` as identical.
        """
        old = chunk.view.executions
        steps = self._then(chunk.version)
        for name in dict.fromkeys((*self._now, *steps)):
            now, then = self._now.get(name), steps.get(name)
            if (name in steps and then is None) or (name in self._now and now is None):
                continue  # what it was like can't be told
            ran = self.ran.get(name, set())
            suspects: Collection[int] = places
            if now is not None and then is not None and _same(now, then):
                suspects = [index for index in places if index in different]
                certain = len(ran.intersection(places)) - len(ran.intersection(suspects))
                counts(name)["identical"] += certain
            made: Mapping[int, Published] = {}
            if now is not None:
                made = now.events(executions, [k for k in suspects if k in ran], now.sink)
            were: Mapping[int, Published] = {}
            if then is not None:
                sink = then.sink or ({} if now is None else now.sink)
                came = then.came(old, [places[index] for index in suspects])
                were = then.events(old, came, sink)
            for index in suspects:
                left, right = were.get(places[index]), made.get(index)
                if left is right is None:
                    continue
                if left == right:
                    counts(name)["identical"] += 1
                else:
                    yield name, index, left, right

    def _then(self, version: str) -> Mapping[str, PublishStep | None]:
        found = self._versions.get(version)
        if found is None:
            document = self._store.chunks.version(self._plan.name, version)
            shape = shape_of(document, self._pipeline)
            found = dict.fromkeys(self._now) if shape is None else self._steps(shape)
            self._versions[version] = found
        return found

    def _steps(self, shape: PipelineShape) -> dict[str, PublishStep | None]:
        """Return the publish steps; None for one whose settings this program can't read."""
        return {
            step.name: self._step(shape, number)
            for number, step in enumerate(shape.steps)
            if step.type == "step.publish"
        }

    def _step(self, shape: PipelineShape, number: int) -> PublishStep | None:
        step, before = shape.steps[number], shape.steps[:number]
        config = {name: value for name, value in step.config.items() if name not in _NOT_COMPOSED}
        sink = str(config.get("sink", ""))
        environment = StepEnvironment(
            flow=self._plan.name,
            pipeline=self._pipeline,
            name=step.name,
            number=number,
            numbers={each.name: place for place, each in enumerate(shape.steps)},
            earlier=[inner.name for each in before for inner in each.every()],
            redact=self._plan.redact,
        )
        try:
            composer = Composer(PublishSettings.model_validate(config), environment)
            routes = _routes(before, environment)
        except (PenstockError, ValidationError, KeyError):
            return None
        told = [each.name for each in shape.steps], config, step.if_, step.skip_if
        ways = [(each.name, each.if_, each.config) for each in before if each.name in routes]
        return PublishStep(
            step.name,
            dict(shape.sinks.get(sink, {})),
            orjson.dumps([told, ways], option=orjson.OPT_SORT_KEYS),
            composer.compose,
            _Coming(step.name, number, environment.numbers, routes),
        )


@dataclass(frozen=True, slots=True)
class _Coming:
    """Tells which recorded executions came to a step: the others ended before, or went another way."""

    name: str
    number: int
    numbers: Mapping[str, int]
    routes: Mapping[str, ConditionalStep]
    """The conditionals before it."""

    def __call__(self, executions: Executions, indexes: Sequence[int]) -> list[int]:
        ended, jumps = executions.ended, dict[int, int]()

        def come(name: str, number: int) -> list[int]:
            passed = executions.passed_over.get(name, {})
            return [
                index
                for index in indexes
                if jumps.get(index, 0) <= number
                and index not in passed
                and (index not in ended or self._stop(executions, index) > number)
            ]

        for name, step in self.routes.items():
            here = come(name, self.numbers[name])
            if here:
                view = replace(executions, failures={}, jumps={})
                step.run(view, here)
                jumps.update(view.jumps)
        return come(self.name, self.number)

    def _stop(self, executions: Executions, index: int) -> int:
        step = executions.ended[index].step
        return -1 if step is None else self.numbers.get(top_step(step), -1)


def _routes(steps: Sequence[StepShape], environment: StepEnvironment) -> dict[str, ConditionalStep]:
    """Return the conditionals among steps. Raises PenstockError, ValidationError, KeyError."""
    return {
        step.name: ConditionalStep(
            ConditionalSettings.model_validate(dict(step.config)), environment
        )
        for step in steps
        if step.type == "step.conditional"
    }


def _same(now: PublishStep, then: PublishStep) -> bool:
    return now.signature == then.signature and (not then.sink or then.sink == now.sink)


def _at(attributes: Mapping[str, Attribute], place: int) -> Json:
    found = {
        name: value[place] if isinstance(value, list) else value
        for name, value in attributes.items()
    }
    return {name: value for name, value in found.items() if value is not None}
