"""What the pipelines of a flow are like, as it is kept beside their recorded executions.

Kept once per version of a flow, when a worker starts: so a recorded execution can be told with the types
and settings of the steps it went through, whatever the flow file says by now. Secrets are masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError

from transforms.registry import step_type

if TYPE_CHECKING:
    from flows.plan import FlowPlan, PipelinePlan, SinkPlan, StepPlan


@dataclass(frozen=True, slots=True)
class StepShape:
    """One step as it was."""

    name: str
    type: str
    if_: str | None = None
    skip_if: str | None = None
    on_error: str = "fail"
    config: Mapping[str, Any] = field(default_factory=dict)
    """Its settings but for defaults, secrets masked."""
    acts: bool = False
    """Whether it changes something outside."""
    outside: bool = False
    """Whether it asks something outside, if only to read."""
    inner: tuple[StepShape, ...] = ()
    """The steps inside it, in one row."""

    def every(self) -> Iterator[StepShape]:
        """Yield the step, then those inside it, at any depth."""
        yield self
        for step in self.inner:
            yield from step.every()


@dataclass(frozen=True, slots=True)
class PipelineShape:
    """One pipeline as it was."""

    name: str
    source_type: str | None = None
    """The type of the source module that starts it."""
    tenant: str | None = None
    """jq for whose an event is."""
    steps: tuple[StepShape, ...] = ()
    sinks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Sink module → where and how it publishes, as far as that is kept: `sink`, `topic`, `format`."""


def flow_document(plan: FlowPlan) -> dict[str, Any]:
    """Return what is kept of a flow, JSON-able."""
    return _document(plan, plan.pipelines)


def pipeline_shape(plan: FlowPlan, pipeline: PipelinePlan) -> PipelineShape:
    """Return a pipeline as it would be kept; it need not be one of the plan's own."""
    found = shape_of(_document(plan, [pipeline]), pipeline.name)
    assert found is not None  # noqa: S101 - it is the one pipeline of the document
    return found


def _document(plan: FlowPlan, pipelines: Iterable[PipelinePlan]) -> dict[str, Any]:
    types = {source.name: source.type for source in plan.sources}
    return {
        "pipelines": {
            pipeline.name: {
                "source_type": types.get(pipeline.source),
                "tenant": pipeline.tenant,
                "partition_by": pipeline.partition_by,
                "steps": [_step_document(step, plan.redact) for step in pipeline.steps],
            }
            for pipeline in pipelines
        },
        "sinks": {sink.name: _sink_document(sink, plan.redact) for sink in plan.sinks},
    }


def _sink_document(sink: SinkPlan, redact: Callable[[str], str]) -> dict[str, Any]:
    found = {"sink": sink.name}
    for name, setting in (("topic", "topic"), ("format", "publish_format"), ("format", "format")):
        value = getattr(sink.settings, setting, None)
        if isinstance(value, str):
            found.setdefault(name, redact(value))
    return found


def shape_of(document: Any, pipeline: str) -> PipelineShape | None:
    """Return a pipeline of what `flow_document` has made; None where it is not there."""
    found = None if document is None else document["pipelines"].get(pipeline)
    if found is None:
        return None
    steps = tuple(map(_step, found["steps"]))
    sinks = document.get("sinks", {})  # which an older program has not kept
    return PipelineShape(pipeline, found["source_type"], found["tenant"], steps, sinks)


def _step_document(step: StepPlan, redact: Callable[[str], str]) -> dict[str, Any]:
    kind = step_type(step.type)
    return {
        "name": step.name,
        "type": step.type,
        "if": step.if_,
        "skip_if": step.skip_if,
        "on_error": step.on_error,
        "config": _masked(_config(step), redact),
        "acts": step.acts,
        "outside": kind is not None and (kind.outside or kind.effect),
        "inner": [_step_document(each, redact) for steps in step.inner.values() for each in steps],
    }


def _step(document: Mapping[str, Any]) -> StepShape:
    return StepShape(
        document["name"],
        document["type"],
        document["if"],
        document["skip_if"],
        document["on_error"],
        document["config"],
        document["acts"],
        document["outside"],
        tuple(map(_step, document["inner"])),
    )


def _config(step: StepPlan) -> dict[str, Any]:
    try:
        found: dict[str, Any] = step.settings.model_dump(
            mode="json", by_alias=True, exclude_defaults=True, warnings=False
        )
    except (AttributeError, PydanticSerializationError, ValueError):
        return {}  # settings of somebody's own step, which need not be JSON
    if not step.inner:
        return found
    # What stands inside it is told step by step.
    return {name: value for name, value in found.items() if name not in _INNER}


_INNER = frozenset({"steps", "branches", "default"})
"""Settings that hold lists of steps."""


def _masked(value: Any, redact: Callable[[str], str]) -> Any:
    match value:
        case str():
            return redact(value)
        case dict():
            return {redact(str(name)): _masked(each, redact) for name, each in value.items()}
        case list():
            return [_masked(each, redact) for each in value]
        case _:
            return value
