"""The sources and sinks that a flow will use, made but not connected."""

from __future__ import annotations

from connectors.contracts import Sink, Source
from connectors.errors import FlowFileError
from connectors.registry import connector_type
from flows.plan import FlowPlan, Problem, SinkPlan, SourcePlan
from flows.runtime.assemble import make_sink, make_source


def used_sources(plan: FlowPlan) -> list[SourcePlan]:
    """Return the sources that are built. A messaging module counts when a pipeline reads it."""
    sinks = {sink.name for sink in plan.sinks}
    return [
        source
        for source in plan.sources
        if (source.pipelines or source.name not in sinks) and source_built(source)
    ]


def used_sinks(plan: FlowPlan) -> list[SinkPlan]:
    """Return the sinks that are built. A messaging module counts when a step publishes to it."""
    sources = {source.name for source in plan.sources}
    published = topics_by_sink(plan)
    return [
        sink
        for sink in plan.sinks
        if (sink.name in published or sink.name not in sources) and sink_built(sink)
    ]


def source_built(source: SourcePlan) -> bool:
    """Whether `run` can make this source."""
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
        for step in pipeline.every_step():
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


def _problem(module: SourcePlan | SinkPlan, error: FlowFileError) -> Problem:
    place = module.place
    return Problem(place.file, place.line, place.column, error.message, error.hint, error.code)
