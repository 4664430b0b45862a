"""Holds a test file against the flow it is about: what it names must be there. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flows.plan import FlowPlan, PipelinePlan
from flows.spec.problems import Problems, did_you_mean
from flows.testing.documents import Cases, place_at
from flows.testing.model import Case, Mock
from flows.testing.running import visible_steps

Steps = tuple[str | int, ...]


_PASS = re.compile(r"\[\d+\]")
"""The number of a loop's item, in the place of a step: `lines[3].charge`."""


def check_cases(cases: Cases, plan: FlowPlan, problems: Problems) -> None:
    """Add what the test document says and the flow does not have."""
    _Checker(cases, plan, problems).check()


def pipeline_of(cases: Cases, case: Case, plan: FlowPlan) -> PipelinePlan:
    """Return the pipeline that a case is about; it was checked that there is one."""
    name = cases.pipeline_of(case)
    return plan.pipelines[0] if name is None else plan.pipeline(name)


def _places(pipeline: PipelinePlan) -> dict[str, str]:
    """Return the type of each step, those inside steps as `lines.charge`."""
    return {step.place_in_pipeline: step.type for step in pipeline.everything_run()}


class _Checker:
    def __init__(self, cases: Cases, plan: FlowPlan, problems: Problems) -> None:
        self._cases = cases
        self._plan = plan
        self._problems = problems

    def check(self) -> None:
        """Look at the document's own mocks and at every case."""
        model = self._cases.model
        names = [pipeline.name for pipeline in self._plan.pipelines]
        if model.pipeline is not None and model.pipeline not in names:
            self._unknown(("pipeline",), "pipeline", model.pipeline, names)
            return
        steps = {
            name: kind for each in self._plan.pipelines for name, kind in _places(each).items()
        }
        self._mocks(model.mocks, steps, ("mocks",))
        for number, case in enumerate(model.tests):
            self._case(case, ("tests", number))

    def _case(self, case: Case, path: Steps) -> None:
        names = [pipeline.name for pipeline in self._plan.pipelines]
        name = self._cases.pipeline_of(case)
        if name is None and len(names) > 1:
            self._add(
                (*path, "name"),
                "the case does not say which pipeline it is about.",
                "missing_key",
                f"Add `pipeline:` to it or to the file; the flow has {', '.join(names)}.",
            )
            return
        if name is not None and name not in names:
            self._unknown((*path, "pipeline"), "pipeline", name, names)
            return
        pipeline = pipeline_of(self._cases, case, self._plan)
        steps = _places(pipeline)
        self._mocks(case.mocks, steps, (*path, "mocks"))
        self._expected(case, list(visible_steps(pipeline)), steps, path)

    def _expected(self, case: Case, names: list[str], steps: dict[str, str], path: Steps) -> None:
        expect, count = case.expect, len(case.inputs)
        at = (*path, "expect")
        if isinstance(expect.outcome, list):
            self._length(expect.outcome, count, (*at, "outcome"))
        for name, one in expect.steps.items():
            if name not in names:
                self._unknown((*at, "steps", name), "step", name, names)
            elif isinstance(one, list):
                self._length(one, count, (*at, "steps", name))
        for number, letter in enumerate(expect.dead_letters or ()):
            if letter.step is not None and _PASS.sub("", letter.step) not in steps:
                where = (*at, "dead_letters", number, "step")
                self._unknown(where, "step", letter.step, list(steps))
        sinks = [sink.name for sink in self._plan.sinks]
        publishing = [step for step, kind in steps.items() if kind == "step.publish"]
        for number, event in enumerate(expect.published or ()):
            where = (*at, "published", number)
            if event.sink is not None and event.sink not in sinks:
                self._unknown((*where, "sink"), "sink module", event.sink, sinks)
            if event.step is not None and event.step not in publishing:
                self._unknown((*where, "step"), "publish step", event.step, publishing)

    def _mocks(self, mocks: dict[str, Mock | list[Mock]], steps: dict[str, str], at: Steps) -> None:
        for name, mock in mocks.items():
            kind = steps.get(name)
            if kind is None:
                self._unknown((*at, name), "step", name, list(steps))
                continue
            for number, one in enumerate(mock if isinstance(mock, list) else [mock]):
                where = (*at, name, number) if isinstance(mock, list) else (*at, name)
                self._mock(one, kind, where)

    def _mock(self, mock: Mock, kind: str, path: Steps) -> None:
        said = mock.model_fields_set
        for key in sorted(said & {"status", "headers"}):
            if kind != "step.http_call":
                self._add(
                    (*path, key),
                    f"{key} is what an http_call answers; this is a {kind}.",
                    "tests_invalid",
                    "Write `output:` or `error:`.",
                )
        for key in sorted(said & {"output", "expression"}):
            if kind == "step.publish":
                self._add(
                    (*path, key),
                    "a publish step has no output: what it publishes is kept for `expect.published`.",
                    "tests_invalid",
                    "A mock of it is an `error:`, what the sink says; `{}` in a list takes the event.",
                )

    def _length(self, said: Sequence[object], count: int, path: Steps) -> None:
        if len(said) != count:
            self._add(
                path,
                f"expected one entry per event, {count} in all; found {len(said)}.",
                "tests_invalid",
                "Without a list, what stands here is expected of every event.",
            )

    def _unknown(self, path: Steps, what: str, name: str, valid: list[str]) -> None:
        hint = did_you_mean(name, valid, none=f"The flow has no {what}.")
        place, width = place_at(self._cases.node, path)
        self._problems.add(
            place, f"there is no {what} {name}.", code="tests_unknown_name", hint=hint, width=width
        )

    def _add(self, path: Steps, message: str, code: str, hint: str) -> None:
        place, width = place_at(self._cases.node, path)
        self._problems.add(place, message, code=code, hint=hint, width=width)
