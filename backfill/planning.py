"""From what is asked to what will run: the pipeline, its past, and what is known of that before it starts."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from backfill.conditions import Keep, compile_filter
from backfill.reading import Counts, JobReader
from backfill.report import Report
from backfill.request import BackfillRequest
from backfill.samples import Json
from backfill.shapes import Rules, rules_of
from backfill.suppressing import asks_outside
from backfill.trial import Trial
from connectors.contracts import EndOfSource, Opening, Shard, Source, Survey, Surveying, Window
from connectors.errors import FlowFileError
from flows.archive.source import archive_of
from flows.plan import FlowPlan, PipelinePlan, SourcePlan, StepPlan
from flows.runtime.assemble import make_source
from flows.runtime.halt import Halt
from flows.runtime.intake import BATCH
from flows.runtime.sinks import renderer
from flows.spec.problems import did_you_mean
from flows.state.contracts import StateStore
from flows.state.letter_documents import when
from transforms.registry import step_type

_SAMPLE = 2000
"""Events that are run to tell how long all of them take."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be run."""

    plan: FlowPlan
    """The flow, with the pipeline as it is to be run."""
    pipeline: PipelinePlan
    source: SourcePlan
    request: BackfillRequest
    window: Window
    keep: Keep | None
    rules: Rules

    def past(self, store: StateStore) -> Source:
        """Return where the source's past is read: its archive, else the source itself."""
        if self.source.archive is not None:
            return archive_of(store, self.plan.name, self.source.name)
        return make_source(self.source)

    def opening(self, positions: dict[str, str]) -> Opening:
        """Return how the past is opened, to go on after `positions`."""
        return Opening(
            shard=Shard(), positions=positions, window=self.window, compile_template=renderer
        )


def prepare(plan: FlowPlan, request: BackfillRequest, other: FlowPlan | None = None) -> Prepared:
    """Return what is to run. `other`: the flow whose pipeline runs, over the past of `plan`.

    Raises FlowFileError.
    """
    window = request.window
    ran = plan if other is None else _as_if(plan, other)
    pipelines = {pipeline.name: pipeline for pipeline in ran.pipelines}
    pipeline = pipelines.get(request.pipeline)
    if pipeline is None:
        raise FlowFileError(
            f"the flow has no pipeline {request.pipeline}.",
            code="unknown_pipeline",
            hint=did_you_mean(request.pipeline, pipelines, none="It has none."),
        )
    source = _source(plan, request.source or pipeline.module)
    if request.concurrency is not None:
        steps = tuple(_slowed(step, request.concurrency) for step in pipeline.steps)
        pipeline = replace(pipeline, steps=steps)
    if request.mode == "shadow" and plan.history.record == "off":
        raise FlowFileError(
            "there is nothing to compare with: the flow says history.record: off.",
            code="backfill_no_history",
            hint="Use --mode dry_run, or record history from now on.",
        )
    return Prepared(
        plan=ran,
        pipeline=pipeline,
        source=source,
        request=request,
        window=window,
        keep=compile_filter(request.filter),
        rules=rules_of(request.ignore, request.tolerance, [s.name for s in pipeline.every_step()]),
    )


def _as_if(plan: FlowPlan, other: FlowPlan) -> FlowPlan:
    """Return the other flow as if it were this one: its name, its state, its history."""
    return replace(
        other,
        name=plan.name,
        state_url=plan.state_url,
        history=plan.history,
    )


def _source(plan: FlowPlan, name: str | None) -> SourcePlan:
    sources = {source.name: source for source in plan.source_modules}
    source = sources.get(name or "")
    if source is None:
        if name is None:
            raise FlowFileError(
                "the pipeline has no source of its own: whose past events are meant?",
                code="backfill_source",
                hint=f"Name one: {', '.join(sources)}.",
            )
        raise FlowFileError(
            f"the flow has no source {name}.",
            code="backfill_source",
            hint=did_you_mean(name, sources, none=f"Name one: {', '.join(sources)}."),
        )
    if source.archive is None and not make_source(source).traits.seek_by_time:
        raise FlowFileError(
            f"the past of source {source.name} ({source.type}) can't be read: it has no archive, and the"
            " source can't be read by time.",
            code="backfill_no_past",
            hint="Write `archive: {retention: 7d}` into the module: its events are kept from then on.",
        )
    return source


def _slowed(step: StepPlan, most: int) -> StepPlan:
    """Return the step with no more than `most` calls at a time, it and what is inside it."""
    settings = step.settings
    if getattr(settings, "concurrency", 0) > most:
        settings = settings.model_copy(update={"concurrency": most})
    inner = {
        group: tuple(_slowed(each, most) for each in steps) for group, steps in step.inner.items()
    }
    return replace(step, settings=settings, inner=inner)


def survey_of(prepared: Prepared, store: StateStore) -> Survey:
    """Return what the range holds, as far as its source can tell. Raises FatalError, RetryableError."""
    past = prepared.past(store)
    if isinstance(past, Surveying):
        return past.survey(prepared.window)
    return Survey(events=None, bytes=None, first=None, last=None)


def plan_document(prepared: Prepared, store: StateStore) -> Json:
    """Return what would run, before anything does: how much, for how long, and what is missing.

    A few events are run through the pipeline with every step that reaches outside held back.
    """
    survey = survey_of(prepared, store)
    request, pipeline = prepared.request, prepared.pipeline
    seconds, basis, share = _time_needed(prepared, store, survey)
    outside = [step.name for step in pipeline.every_step() if _is_outside(step)]
    document: dict[str, Any] = {
        "flow": prepared.plan.name,
        "pipeline": pipeline.name,
        "source": prepared.source.name,
        "read_from": "archive" if prepared.source.archive is not None else prepared.source.type,
        "mode": request.mode,
        "from": when(prepared.window.since / 1000),
        "to": when(prepared.window.until / 1000),
        "events": survey.events,
        "bytes": survey.bytes,
        "exact": survey.exact,
        "first": None if survey.first is None else when(survey.first / 1000),
        "last": None if survey.last is None else when(survey.last / 1000),
        "taken_share": share,
        "seconds_needed": seconds,
        "seconds_by": basis,
        "gaps": [
            {
                "from": when(gap.since / 1000),
                "to": when(gap.until / 1000),
                "reason": gap.reason,
            }
            for gap in survey.gaps
        ],
        "asks_outside": outside,
        "warnings": list(_warnings(prepared)),
    }
    return document


def _warnings(prepared: Prepared) -> list[str]:
    request, pipeline = prepared.request, prepared.pipeline
    found = []
    record = prepared.plan.history.record
    if request.mode == "shadow" and record != "full":
        found.append(
            f"history.record is {record}: what was not recorded counts as new, and is not compared."
        )
    if request.mode == "live":
        publishes = any(step.type == "step.publish" for step in pipeline.every_step())
        if publishes:
            found.append(
                "what is published may be older than what its readers have by now: a sink that keeps the"
                " last one it gets goes back in time."
            )
        if pipeline.delivery == "exactly_once":
            found.append(
                "delivery is at_least_once: positions of a job are in no transaction of Kafka's."
            )
    return found


def _is_outside(step: StepPlan) -> bool:
    kind = step_type(step.type)
    return kind is not None and not step.inner and asks_outside(kind, step)


def _time_needed(
    prepared: Prepared, store: StateStore, survey: Survey
) -> tuple[float | None, str, float | None]:
    """Return seconds, what they are reckoned by, and the part of the events that the filter takes."""
    rate = prepared.request.rate_limit
    by_rate = survey.events / rate if rate and survey.events is not None else None
    count, seconds, share = _sampled(prepared, store)
    if by_rate is None and (survey.events is None or not count):
        return (0.0 if survey.events == 0 else None), "nothing", share
    by_sample = 0.0
    if count and survey.events is not None:
        by_sample = seconds / count * survey.events
    if by_rate is not None and by_rate >= by_sample:
        return round(by_rate, 1), "rate_limit", share
    return round(by_sample, 1), "sample", share


def _sampled(prepared: Prepared, store: StateStore) -> tuple[int, float, float | None]:
    """Run the first events of the range; return how many, the seconds, and the part that is taken."""
    halt = Halt()
    with ExitStack() as opened:
        inner = prepared.past(store).open(prepared.opening({}))
        reader = JobReader(inner, Counts(), halt, keep=prepared.keep)
        opened.callback(reader.close)
        trial = Trial(
            prepared.plan,
            prepared.source,
            prepared.pipeline,
            originals=None,
            report=Report(),
            rules=prepared.rules,
            halt=halt,
            opened=opened,
            offline=True,
        )
        spent, deadline = 0.0, time.monotonic() + 10.0
        while reader.counts.read < _SAMPLE and time.monotonic() < deadline:
            started = time.perf_counter()
            try:
                batch = reader.poll(BATCH, 0.1)
            except EndOfSource:
                break
            if batch is not None:
                trial.run(batch)
                spent += time.perf_counter() - started
        counts = reader.counts
    share = 1 - counts.left_out / counts.read if counts.read else None
    return counts.read, spent, share
