"""Runs one case: ingest → steps → settle, as in a worker, on one batch. Connects to nothing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from connectors.contracts import Sink, SinkTraits
from connectors.errors import PenstockError
from flows.plan import FlowPlan, PipelinePlan, SinkPlan, SourcePlan, StepPlan
from flows.runtime.assemble import assemble_branches, make_step
from flows.runtime.sagas import Sagas
from flows.runtime.sinks import make_sink
from flows.spec.pipelines import Retry
from flows.state.records import DeadLetter
from flows.testing.capture import CaptureSink, PatientHalt, Published, Settled, Unkept
from flows.testing.events import batch_of
from flows.testing.mocks import (
    MISTAKES,
    Answers,
    MockedStep,
    Mocks,
    UnmockedStep,
    WatchedStep,
    reaches_outside,
    refusing,
)
from flows.testing.model import Case
from transforms.contracts import Step, StepEnvironment
from transforms.executions import UNSET, Executions
from transforms.registry import step_type

_TRAITS = SinkTraits(ordered=True, delivery="at_least_once", topics=True)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one step did for one event."""

    ran: bool
    output: Any = UNSET
    """UNSET where it has none."""
    detail: Mapping[str, Any] | None = None
    """Status and headers of an http_call."""
    error: PenstockError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as jq programs and reports see it."""
        shown: dict[str, Any] = {"ran": self.ran}
        if self.output is not UNSET:
            shown["output"] = self.output
        if self.error is not None:
            shown["error"] = error_dict(self.error)
        return shown | dict(self.detail or {})


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """What became of one event."""

    id: str
    outcome: str
    step: str | None
    """The step it failed at."""
    error: PenstockError | None
    steps: Mapping[str, StepOutcome]

    def as_dict(self) -> dict[str, Any]:
        """Return it as jq programs and reports see it."""
        return {
            "id": self.id,
            "outcome": self.outcome,
            "step": self.step,
            "error": None if self.error is None else error_dict(self.error),
            "steps": {name: step.as_dict() for name, step in self.steps.items()},
        }


@dataclass(frozen=True, slots=True)
class Happened:
    """All that a case has done."""

    events: list[EventOutcome]
    published: list[Published]
    dead_letters: list[DeadLetter]
    stopped: PenstockError | None
    """Why the worker would have stopped."""
    logs: list[dict[str, Any]]
    """What log steps and Python steps have logged with structlog."""

    @property
    def mistake(self) -> PenstockError | None:
        """What is wrong with the case itself: a mock that it lacks."""
        found = self.stopped
        return found if found is not None and found.code in MISTAKES else None

    def as_dict(self) -> dict[str, Any]:
        """Return it as `assert` programs see it."""
        events = [event.as_dict() for event in self.events]
        return {
            "events": events,
            "steps": events[0]["steps"],
            "published": [one.as_dict() for one in self.published],
            "dead_letters": [letter_dict(one) for one in self.dead_letters],
            "stopped": None if self.stopped is None else error_dict(self.stopped),
            "logs": self.logs,
        }


def run_case(plan: FlowPlan, pipeline: PipelinePlan, case: Case, mocks: Mocks) -> Happened:
    """Run the case through the pipeline.

    Raises FlowFileError for what shows only when steps are made (a Python function that is not
    there) and for an event that can't be made.
    """
    return _Run(plan, pipeline, mocks).run(case)


class _Run:
    def __init__(self, plan: FlowPlan, pipeline: PipelinePlan, mocks: Mocks) -> None:
        # Nobody reads a history of it.
        # A case says what comes of an event in the end: nothing waits to be tried again.
        steps = tuple(_tried_once(step) for step in pipeline.steps)
        pipeline = replace(pipeline, steps=steps)
        if pipeline.saga is not None:  # nor does one of a key wait for another's saga
            pipeline = replace(pipeline, order="none")
        self._plan = replace(plan, history=replace(plan.history, record="off"))
        self._pipeline = pipeline
        self._mocks = mocks
        self._published: list[Published] = []
        self._ran: dict[str, set[int]] = {}
        """Place of a step → the events it ran for."""

    def run(self, case: Case) -> Happened:
        known = [source for source in self._plan.sources if source.name == self._pipeline.module]
        source = known[0] if known else None
        batch = batch_of(case.inputs, source)
        settled, halt = Settled(), PatientHalt()
        with ExitStack() as opened:
            (branch,) = assemble_branches(
                self._plan,
                self._only(source),
                {sink.name: self._sink(sink) for sink in self._plan.sinks},
                committer=settled,
                halt=halt,
                opened=opened,
                marks={},
                parkings={},
                sagas=self._sagas(halt),
                make=self._step,
            )
            logs = opened.enter_context(_captured_logs())
            executions = branch.ingest(batch)
            branch.each(executions)
            branch.settle(executions)
        return Happened(
            [self._event(executions, index, halt) for index in range(batch.size)],
            self._published,
            settled.dead_letters,
            halt.error,
            logs,
        )

    def _sagas(self, halt: PatientHalt) -> dict[str, Sagas]:
        pipeline = self._pipeline
        if pipeline.saga is None:
            return {}
        return {pipeline.name: Sagas(pipeline, Unkept(), halt)}

    def _only(self, source: SourcePlan | None) -> SourcePlan:
        """Return the source with this pipeline alone; one that stands for none where it has none."""
        pipelines = (self._pipeline,)
        if source is None:
            return SourcePlan("", "", None, pipelines, self._pipeline.place)
        return replace(source, pipelines=pipelines)

    def _sink(self, plan: SinkPlan) -> Sink:
        traits = _TRAITS
        if self._pipeline.module and all(
            s.type == "step.publish" for s in self._pipeline.everything_run()
        ):
            # Whether a pipeline that only passes on reads its data depends on where that goes. For
            # others the sink is not even imported.
            traits = make_sink(plan).traits
        return CaptureSink(plan, self._published, traits)

    def _step(self, plan: StepPlan, environment: StepEnvironment) -> Step:
        ran = self._ran.setdefault(plan.place_in_pipeline, set())
        return WatchedStep(self._stand_in(plan, environment), ran)

    def _stand_in(self, plan: StepPlan, environment: StepEnvironment) -> Step:
        """Return the step itself, or what stands for it."""
        place = plan.place_in_pipeline
        mock = self._mocks.get(place)
        answers = None if mock is None else Answers(place, mock)
        if plan.type == "step.publish":
            sink = environment.sinks[plan.settings.sink]
            assert isinstance(sink, CaptureSink)  # noqa: S101 - made above
            own: Sink = sink.of_step(place, refusing(answers) if answers else None)
            return make_step(plan, replace(environment, sinks={plan.settings.sink: own}))
        if answers is not None:
            return MockedStep(plan, answers)
        kind = step_type(plan.type)
        if kind is not None and reaches_outside(kind, plan.settings):
            return UnmockedStep(plan)
        return make_step(plan, environment)

    def _event(self, executions: Executions, index: int, halt: PatientHalt) -> EventOutcome:
        ended = executions.ended.get(index)
        outcome = "stopped" if halt.error else ended.outcome if ended else "done"
        steps = {
            name: self._outcome(executions, index, name, places)
            for name, places in visible_steps(self._pipeline).items()
        }
        return EventOutcome(
            id=str(executions.events.column("id")[index]),
            outcome=outcome,
            step=ended.step if ended else None,
            error=ended.error if ended else None,
            steps=steps,
        )

    def _outcome(
        self, executions: Executions, index: int, name: str, places: Sequence[str]
    ) -> StepOutcome:
        outputs, details = executions.outputs.get(name), executions.details.get(name)
        ended = executions.ended.get(index)
        error = executions.passed_over.get(name, {}).get(index)
        failed = ended.step if ended is not None and ended.step is not None else ""
        # It may have failed inside the step: `lines[3].charge`.
        if error is None and any(re.match(rf"{re.escape(p)}(?![\w-])", failed) for p in places):
            error = executions.ended[index].error
        return StepOutcome(
            ran=any(index in self._ran.get(place, ()) for place in places),
            output=UNSET if outputs is None else outputs[index],
            detail=None if details is None else details[index],
            error=error,
        )


def _tried_once(step: StepPlan) -> StepPlan:
    """Return the step as it is when nothing is tried again."""
    undo = step.compensate
    if undo is not None:
        undo = replace(undo, retry=Retry(max_attempts=1))
    return replace(step, retry=None, compensate=undo)


def visible_steps(pipeline: PipelinePlan) -> dict[str, list[str]]:
    """Return name → places of the steps that leave outputs in the pipeline.

    Those are its own steps and those in branches, of which several may have the same name; what a
    loop does within its passes is seen in the loop's output only.
    """
    found: dict[str, list[str]] = {}
    for step in _visible(pipeline.steps):
        found.setdefault(step.name, []).append(step.place_in_pipeline)
    return found


def _visible(steps: Sequence[StepPlan]) -> Iterator[StepPlan]:
    for step in steps:
        yield step
        kind = step_type(step.type)
        if kind is not None and kind.shares_names:
            for inner in step.inner.values():
                yield from _visible(inner)


def _captured_logs() -> AbstractContextManager[list[Any]]:
    """Keep log lines from being written. Where nothing can log, structlog is not even imported."""
    if "structlog" not in sys.modules:
        return nullcontext([])
    from structlog.testing import capture_logs  # noqa: PLC0415 - see above

    return capture_logs()


def error_dict(error: PenstockError) -> dict[str, Any]:
    """Return an error as jq programs and reports see it."""
    return {
        "code": error.code,
        "kind": error.kind,
        "message": error.message,
        "hint": error.hint,
        "context": error.context,
    }


def letter_dict(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as jq programs and reports see it."""
    return {
        "step": letter.step,
        "code": letter.error_code,
        "kind": letter.error_kind,
        "message": letter.error_message,
        "event_id": letter.event_id,
        "event_type": letter.event_type,
        "tenant": letter.tenant,
        "event": json.loads(letter.event),
        "outputs": json.loads(letter.outputs),
        "compensated": [
            each["step"]
            for each in json.loads(letter.compensation or "[]")
            if each["status"] == "compensated"
        ],
    }
