"""Runs the cases of test files: the flow is loaded once, each case is run and judged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass

from connectors.errors import FlowFileError
from flows.plan import FlowPlan, load_flow, not_built
from flows.spec.problems import FlowErrors, Place
from flows.testing.checks import check_cases, pipeline_of
from flows.testing.documents import Cases, Suite
from flows.testing.judging import Miss, judge
from flows.testing.matching import Steps
from flows.testing.running import run_case


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that was not met, at its place in the test file."""

    place: Place
    path: Steps
    """Where it is in the case; what the file doesn't have of it lies behind `place`."""
    miss: Miss


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of one case."""

    name: str
    flow: str
    pipeline: str
    place: Place
    failures: tuple[Failure, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return not self.failures


def load_suite(suite: Suite, environ: AbstractMapping[str, str]) -> FlowPlan:
    """Return the plan of the suite's flow.

    Raises FlowErrors: what is wrong with the flow, what `penstock run` would refuse, what the test
    files say and the flow does not have.
    """
    # Nothing is opened, so an operator's own store is nothing a test should depend on.
    given = {name: value for name, value in environ.items() if name != "PENSTOCK_STATE_URL"}
    plan = load_flow(suite.flow, {**given, **suite.environment})
    missing = not_built(plan)
    if missing:
        raise FlowErrors(missing)
    for cases in suite.documents:
        check_cases(cases, plan, suite.problems)
    suite.problems.raise_if_any()
    return plan


def run_suite(
    suite: Suite, plan: FlowPlan, wanted: AbstractSequence[str] = ()
) -> Iterator[CaseResult]:
    """Run the cases in the order of the files; with `wanted`, those of these names only.

    Raises FlowFileError for a step that can't be made.
    """
    for cases in suite.documents:
        for number, case in enumerate(cases.model.tests):
            if not wanted or case.name in wanted:
                yield _run(cases, number, plan)


def _run(cases: Cases, number: int, plan: FlowPlan) -> CaseResult:
    case = cases.model.tests[number]
    pipeline = pipeline_of(cases, case, plan)
    started = time.perf_counter()
    own = {step.place_in_pipeline for step in pipeline.everything_run()}
    shared = {name: mock for name, mock in cases.model.mocks.items() if name in own}
    root: Steps = ("tests", number)
    try:
        happened = run_case(plan, pipeline, case, {**shared, **case.mocks})
    except FlowFileError as error:
        if error.code != "tests_event":
            raise
        misses = [Miss(("name",), f"{error.message} {error.hint}")]
    else:
        mistake = happened.mistake
        if mistake is not None:
            misses = [Miss(("name",), f"{mistake.message} {mistake.hint}")]
        else:
            misses = judge(case.expect, happened)
    failures = [
        Failure(cases.place((*root, *miss.path)), miss.path, _redacted(miss, plan))
        for miss in misses
    ]
    return CaseResult(
        name=case.name,
        flow=plan.name,
        pipeline=pipeline.name,
        place=cases.place((*root, "name")),
        failures=tuple(failures),
        seconds=time.perf_counter() - started,
    )


def _redacted(miss: Miss, plan: FlowPlan) -> Miss:
    return Miss(miss.path, plan.redact(miss.message), miss.expected, miss.found)
