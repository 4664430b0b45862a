"""Explains a plan: what runs where, what is promised of it, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from connectors.contracts import Sink, Source
from flows.guarantees import (
    Guarantee,
    after_crash,
    copy_guarantee,
    edge_guarantee,
    usable_workers,
)
from flows.plan import FlowPlan, PipelinePlan, SinkPlan, SourcePlan, StepPlan, not_built
from penstock.cli.amounts import show_age, show_size
from penstock.cli.explaining_sagas import SagaText, explain_saga
from penstock.cli.found_expressions import FoundExpression, expressions_of
from penstock.cli.modules import make_modules
from penstock.cli.sources import source_of
from transforms.expressions import compile_jq, compile_template

_Explained = TypeVar("_Explained")

NOT_MADE = "not used as this, or not built yet"


@dataclass(frozen=True, slots=True)
class ExpressionText:
    """An expression, and what evaluates it."""

    key: str
    language: str
    text: str
    engine: str
    why: str
    source: str | None = None
    """The Python it becomes, where any is generated for it."""


@dataclass(frozen=True, slots=True)
class ModuleText:
    """A source or sink."""

    name: str
    type: str
    role: str
    facts: list[str]
    expressions: list[ExpressionText]


@dataclass(frozen=True, slots=True)
class PublishText:
    """An edge from the pipeline's source to a sink."""

    step: str
    source: str
    sink: str
    topic: str | None
    promise: str
    reason: str
    ordered: bool | None
    order_reason: str


@dataclass(frozen=True, slots=True)
class CopiesText:
    """The edge from the pipeline's dead letters to the sink that gets copies of them."""

    sink: str
    promise: str
    reason: str


@dataclass(frozen=True, slots=True)
class StepText:
    """One step."""

    name: str
    type: str
    use: str | None
    effect: bool
    """It changes something outside."""
    on_error: str
    expressions: list[ExpressionText]
    idempotent: bool = False
    """It acts once per key."""
    timeout: float | None = None
    """Seconds that its `timeout:` gives it for an event."""
    inner: dict[str, list[StepText]] = field(default_factory=dict)
    """The lists of steps inside it, by their path in its config: `steps`, `branches.gold`."""


@dataclass(frozen=True, slots=True)
class PipelineText:
    """One pipeline."""

    name: str
    source: str | None
    schema: str | None
    event_type: str | None
    expressions: list[ExpressionText]
    steps: list[StepText]
    publishes: list[PublishText]
    after_crash: str
    timeout: float | None = None
    """Seconds that an execution may take."""
    saga: SagaText | None = None
    copies: CopiesText | None = None
    """None where no sink gets copies of its dead letters."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A whole flow."""

    flow: str
    version: str
    files: list[str]
    state: str
    history: str
    modules: list[ModuleText]
    pipelines: list[PipelineText]
    not_built: list[str] = field(default_factory=list)
    """What `run` refuses, with its place."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def explain_plan(plan: FlowPlan) -> Explanation:
    """Return the explanation of a flow, secrets masked. Connects to nothing."""
    sources, sinks, _ = make_modules(plan)
    record, fraction = plan.history.record, plan.history.fraction
    return Explanation(
        flow=plan.name,
        version=plan.version_hash,
        files=[str(path) for path in plan.files],
        state=plan.redact(plan.state_url),
        history=f"sampled({fraction:g})" if record == "sampled" else record,
        modules=[
            *(_source(plan, source, sources.get(source.name)) for source in plan.source_modules),
            *(_sink(plan, sink, sinks.get(sink.name)) for sink in plan.sinks),
        ],
        pipelines=[_pipeline(plan, pipeline, sources, sinks) for pipeline in plan.pipelines],
        not_built=[
            f"{problem.file}:{problem.line}: {problem.message}" for problem in not_built(plan)
        ],
    )


def without_sources(explained: _Explained) -> _Explained:
    """Return a part of an explanation without the Python of its expressions."""
    found: Any = explained
    if isinstance(found, ExpressionText):
        found = replace(found, source=None)
    elif isinstance(found, list):
        found = [without_sources(part) for part in found]
    elif isinstance(found, dict):
        found = {name: without_sources(part) for name, part in found.items()}
    elif is_dataclass(found) and not isinstance(found, type):
        parts = {one.name: without_sources(getattr(found, one.name)) for one in fields(found)}
        found = replace(found, **parts)
    return cast("_Explained", found)


def _source(plan: FlowPlan, module: SourcePlan, made: Source | None) -> ModuleText:
    facts = [NOT_MADE]
    if made is not None:
        spread = any(pipeline.partition_by for pipeline in module.pipelines)
        facts = [f"workers it can use: {usable_workers(made.traits, spread=spread)}"]
        if not made.traits.ordered:
            facts.append("gives no order")
        facts.append(_past(module, made))
        if not module.pipelines:
            facts.append("no pipeline is triggered by it: `run` does not open it")
    return ModuleText(
        module.name,
        module.type,
        "source",
        facts,
        _expressions(plan, expressions_of(module.settings)),
    )


def _past(module: SourcePlan, made: Source) -> str:
    """Return whether its events can be read again by time, and from where."""
    if module.archive is not None:
        size = module.archive.max_size
        most = "" if size is None else f", at most {show_size(size)}"
        kept = show_age(module.archive.retention) if module.archive.retention else "always"
        return f"can be read again by time from its archive (kept {kept}{most})"
    if made.traits.seek_by_time:
        return "can be read again by time, as far as its server keeps events"
    return "can't be read again by time: it has no `archive:`"


def _sink(plan: FlowPlan, module: SinkPlan, made: Sink | None) -> ModuleText:
    facts = [NOT_MADE] if made is None else []
    users = [
        f"{pipeline.name}/{step.place_in_pipeline}"
        for pipeline in plan.pipelines
        for step in pipeline.everything_run()
        if step.type == "step.publish" and step.settings.sink == module.name
    ]
    copied = [each.name for each in plan.pipelines if each.dead_letter.sink == module.name]
    if users or not copied:
        facts.append(f"published to by {', '.join(users)}" if users else "no step publishes to it")
    if copied:
        facts.append(f"gets copies of the dead letters of {', '.join(copied)}")
    return ModuleText(
        module.name, module.type, "sink", facts, _expressions(plan, expressions_of(module.settings))
    )


def _pipeline(
    plan: FlowPlan,
    pipeline: PipelinePlan,
    sources: dict[str, Source],
    sinks: dict[str, Sink],
) -> PipelineText:
    own = [
        FoundExpression(key, "jq", text)
        for key, text in (
            ("trigger.when", pipeline.when),
            ("tenant", pipeline.tenant),
            ("key", pipeline.key),
            ("partition_by", pipeline.partition_by),
        )
        if text
    ]
    if pipeline.idempotency is not None:
        template = pipeline.idempotency.key_template
        own.append(FoundExpression("idempotency.key_template", "template", template))
    source = sources.get(pipeline.source)
    edges = [
        (step, _edge(pipeline, source, sinks.get(step.settings.sink), step))
        for step in pipeline.everything_run()
        if step.type == "step.publish"
    ]
    acting = [
        step
        for step in pipeline.every_step()
        if step.acts and not step.inner and step.type != "step.publish"
    ]
    saga = explain_saga(pipeline, lambda step: _step(plan, step))
    return PipelineText(
        name=pipeline.name,
        source=pipeline.module,
        schema=pipeline.schema,
        event_type=pipeline.event_type,
        expressions=_expressions(plan, own),
        steps=[_step(plan, step) for step in pipeline.steps],
        publishes=[_publish(pipeline, step, edge) for step, edge in edges],
        after_crash=saga.after_crash
        if saga is not None
        else after_crash(
            [step.place_in_pipeline for step in acting if not step.is_idempotent],
            [
                (step.place_in_pipeline, edge)
                for step, edge in edges
                if edge is not None and not step.is_idempotent
            ],
            [
                step.place_in_pipeline
                for step in (*acting, *(step for step, _ in edges))
                if step.is_idempotent
            ],
        ),
        timeout=pipeline.timeout,
        saga=saga,
        copies=_copies(pipeline, sinks),
    )


def _copies(pipeline: PipelinePlan, sinks: dict[str, Sink]) -> CopiesText | None:
    name = pipeline.dead_letter.sink
    if name is None:
        return None
    sink = sinks.get(name)
    if sink is None:
        return CopiesText(name, "nothing yet", "Not built yet.")
    return CopiesText(name, *copy_guarantee(sink.traits))


def _step(plan: FlowPlan, step: StepPlan) -> StepText:
    own = [
        FoundExpression(key, "jq", text)
        for key, text in (("if", step.if_), ("skip_if", step.skip_if))
        if text
    ]
    if step.retry is not None:
        own += expressions_of(step.retry, "retry.")
    return StepText(
        name=step.name,
        type=step.type,
        use=step.use,
        effect=step.acts,
        on_error=step.on_error,
        expressions=_expressions(plan, [*own, *expressions_of(step.settings)]),
        idempotent=step.is_idempotent,
        timeout=step.timeout,
        inner={group: [_step(plan, each) for each in steps] for group, steps in step.inner.items()},
    )


def _edge(
    pipeline: PipelinePlan, source: Source | None, sink: Sink | None, step: StepPlan
) -> Guarantee | None:
    if source is None or sink is None:
        return None
    return edge_guarantee(
        source.traits,
        sink.traits,
        skips=step.on_error == "skip",
        in_transaction=pipeline.delivery == "exactly_once",
        keyed=pipeline.idempotency is not None,
        idempotent=step.is_idempotent,
        outbox_of=None if step.outbox is None else step.settings.outbox.step,
    )


def _publish(pipeline: PipelinePlan, step: StepPlan, edge: Guarantee | None) -> PublishText:
    return PublishText(
        step=step.place_in_pipeline,
        source=pipeline.module or "",
        sink=step.settings.sink,
        topic=step.settings.topic,
        promise="nothing yet" if edge is None else edge.promise,
        reason="Not built yet." if edge is None else edge.reason,
        ordered=None if edge is None else edge.ordered,
        order_reason="" if edge is None else edge.order_reason,
    )


def engine_of(language: str, text: str) -> tuple[str, str]:
    """Return what evaluates an expression, and why."""
    if language == "jq":
        program = compile_jq(text)
        return program.engine, program.reason
    if language == "path":
        return "path", "reads one place of the context"
    if language == "sql":
        return "sql", "evaluated here, on OLD and NEW of each change"
    engines = [command.engine for command in compile_template(text).commands]
    shown = ", ".join(dict.fromkeys(engines))
    return shown, "; ".join(dict.fromkeys(_ENGINES.get(engine, engine) for engine in engines))


_ENGINES = {
    "path": "reads one place of the context",
    "template": "paths, literals and functions of templates",
    "compiled": "runs as Python that is generated from it",
}


def _expressions(plan: FlowPlan, found: list[FoundExpression]) -> list[ExpressionText]:
    shown = []
    for one in found:
        engine, why = engine_of(one.language, one.text)
        source = source_of(one.language, one.text)
        shown.append(
            ExpressionText(
                key=one.key,
                language=one.language,
                text=plan.redact(one.text),
                engine=engine,
                why=why,
                source=None if source is None else plan.redact(source),
            )
        )
    return shown
