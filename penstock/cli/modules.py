"""The sources and sinks that a flow will use, made but not connected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from connectors.batch import Column
from connectors.contracts import Sink, Source
from connectors.errors import FlowFileError
from connectors.registry import connector_type
from flows.plan import FlowPlan, Problem, SinkPlan, SourcePlan, StepPlan
from flows.runtime.assemble import make_source, make_step
from flows.runtime.halt import Halt
from flows.runtime.runners import RunnerMaker
from flows.runtime.sinks import make_sink
from transforms.contracts import Step, StepEnvironment
from transforms.executions import Executions
from transforms.registry import step_type


def used_sources(plan: FlowPlan) -> list[SourcePlan]:
    """Return the sources that are built. A messaging module counts when a pipeline reads it."""
    sinks = {sink.name for sink in plan.sinks}
    return [
        source
        for source in plan.sources
        if (source.pipelines or source.name not in sinks) and source_built(source)
    ]


def used_sinks(plan: FlowPlan) -> list[SinkPlan]:
    """Return the sinks that are built. A messaging module counts when anything is published to it."""
    sources = {source.name for source in plan.sources}
    published = {*topics_by_sink(plan), *(each.dead_letter.sink for each in plan.pipelines)}
    return [
        sink
        for sink in plan.sinks
        if (sink.name in published or sink.name not in sources) and sink_built(sink)
    ]


def source_built(source: SourcePlan) -> bool:
    """Whether `run` can make this source."""
    if not source.is_module:
        return True
    kind = connector_type(source.type)
    return kind is not None and kind.source is not None


def sink_built(sink: SinkPlan) -> bool:
    """Whether `run` can make this sink."""
    kind = connector_type(sink.type)
    return kind is not None and kind.sink is not None


def topics_by_sink(plan: FlowPlan) -> dict[str, list[str]]:
    """Return sink → the topics that publish steps name; [] where they leave it to the sink."""
    topics: dict[str, dict[str, None]] = {}
    for pipeline in plan.pipelines:
        for step in pipeline.everything_run():
            if step.type == "step.publish":
                named = topics.setdefault(step.settings.sink, {})
                if step.settings.topic is not None:
                    named[step.settings.topic] = None
    return {sink: list(named) for sink, named in topics.items()}


def make_modules(
    plan: FlowPlan,
) -> tuple[dict[str, Source], dict[str, Sink], list[Problem]]:
    """Return the flow's sources and sinks by name, and what they themselves have against it."""
    sources: dict[str, Source] = {}
    sinks: dict[str, Sink] = {}
    problems: list[Problem] = []
    for source in used_sources(plan):
        try:
            sources[source.name] = make_source(source)
        except FlowFileError as error:
            problems.append(_problem(source, error))
    for sink in used_sinks(plan):
        try:
            sinks[sink.name] = make_sink(sink)
        except FlowFileError as error:
            problems.append(_problem(sink, error))
    return sources, sinks, problems


def make_steps(plan: FlowPlan, sinks: Mapping[str, Sink]) -> list[Problem]:
    """Return what shows when the flow's steps are made: a Python function that isn't there, a file.

    Makes them as a worker does and lets go of them; nothing is connected. `sinks` are not opened.
    """
    problems: list[Problem] = []

    def make(step: StepPlan, environment: StepEnvironment) -> Step:
        kind = step_type(step.type)
        published = getattr(step.settings, "sink", None)
        if kind is None or kind.make is None or (published is not None and published not in sinks):
            return _Unmade()
        try:
            return make_step(step, environment)
        except FlowFileError as error:
            found = _problem(step, error)
            problems.append(replace(found, message=f"step {environment.place}: {found.message}"))
            return _Unmade()

    with ExitStack() as made:
        for pipeline in plan.pipelines:
            maker = RunnerMaker(plan, pipeline.name, sinks, Halt(), made, make)
            maker.compensations(pipeline, maker.runners(pipeline.steps))
    return problems


class _Unmade:
    """Stands in for a step that could not be made, so that the others are looked at too."""

    has_output = True

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Never called: the flow is refused."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


def _problem(part: SourcePlan | SinkPlan | StepPlan, error: FlowFileError) -> Problem:
    place = part.place
    return Problem(place.file, place.line, place.column, error.message, error.hint, error.code)


def with_line(problem: Problem, redact: Callable[[str], str]) -> Problem:
    """Return the problem with the line of the file that it is on, secrets masked."""
    with suppress(OSError, UnicodeDecodeError):
        lines = Path(problem.file).read_text(encoding="utf-8").splitlines()
        if problem.line <= len(lines):
            line = redact(lines[problem.line - 1])
            width = len(line.rstrip()) - problem.column + 1
            return replace(problem, excerpt=line, width=width)
    return problem
