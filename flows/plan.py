"""`FlowPlan`: a flow file that is read, checked and resolved, as `run`, `explain` and `validate` share it.

Nothing in a plan changes, and nothing in it is looked up again: sinks are resolved, configs are
their types' settings, `use:` is merged, expressions are known to compile.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from flows.by_hand import BY_HAND, BY_HAND_TYPE
from flows.spec.check import CheckedFlow, read_flow
from flows.spec.configs import ModuleNode, StepNode
from flows.spec.model import Archive, FlowFile, Log, check_state_url
from flows.spec.nodes import plain
from flows.spec.not_built import find_not_built
from flows.spec.pipelines import Compensation, DeadLetters, Idempotency, Pipeline, Retry, Saga, Step
from flows.spec.problems import FlowErrors, Place, Problem
from flows.spec.redactions import Redaction, parse_redaction
from flows.spec.registries import ExternalRegistry
from flows.spec.schemas import declared, link, validator_of
from flows.spec.secrets import Secrets
from flows.spec.server import Server, parse_tokens
from schema_registry.documents import Document
from schema_registry.rules import Level
from schema_registry.subjects import SubjectVersions, split_key
from transforms.registry import step_type
from transforms.steps.substeps import SubStep

_VERSIONED = ("modules", "schemas", "pipelines")
"""What makes a flow's version: not where its state is or how it logs."""


@dataclass(frozen=True, slots=True)
class HistoryPlan:
    """What is recorded, and for how long."""

    record: Literal["full", "errors", "sampled", "off"]
    fraction: float
    """The part of the executions that `sampled` records; 1.0 otherwise."""
    retention: float
    """Seconds."""
    max_size: int
    """Bytes."""
    redact: tuple[Redaction, ...] = ()
    """What is masked before it is recorded."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of a pipeline."""

    name: str
    number: int
    """0, 1, …"""
    type: str
    settings: Any
    """The settings of its type; a publish step's `sink` is resolved."""
    if_: str | None
    skip_if: str | None
    on_error: Literal["fail", "skip"]
    place: Place
    retry: Retry | None = None
    """How often it is tried; None: once."""
    use: str | None = None
    """The step module it uses."""
    timeout: float | None = None
    """Seconds; where the step's own `timeout:` is what its settings' `timeout` was lowered to."""
    within: str = ""
    """The steps that it stands in, each followed by a period."""
    inner: Mapping[str, tuple[StepPlan, ...]] = field(default_factory=dict)
    """The lists of steps inside it, by their path in its config: `steps`, `branches.gold`."""
    compensate: StepPlan | None = None
    """What undoes it, in a saga: a step of its own, called `<name>.compensate`."""
    publishes: tuple[StepPlan, ...] = ()
    """The publish steps right behind it whose events are written in its transaction."""

    @property
    def place_in_pipeline(self) -> str:
        """Return its name with those of the steps it stands in: `lines.charge`."""
        return f"{self.within}{self.name}"

    @property
    def acts(self) -> bool:
        """Whether it changes something outside; an HTTP call does unless it only reads."""
        if any(step.acts for steps in self.inner.values() for step in steps):
            return True
        kind = step_type(self.type)
        effect = kind is not None and kind.effect
        if not effect:
            return bool(getattr(self.settings, "effect", False))
        return getattr(self.settings, "method", "POST") not in {"GET", "HEAD", "OPTIONS"}

    @property
    def is_idempotent(self) -> bool:
        """Whether it acts once per key."""
        return bool(getattr(self.settings, "idempotent", False))

    @property
    def may_hold(self) -> bool:
        """Whether it may have events wait instead of trying them: its circuit is open."""
        return bool(getattr(self.settings, "may_hold", False))

    @property
    def outbox(self) -> str | None:
        """Return the table that its events are published from; None for a step without an outbox."""
        found = getattr(self.settings, "outbox", None)
        return None if found is None else str(found.table)

    def every(self) -> Iterator[StepPlan]:
        """Yield the step, then those inside it, at any depth."""
        yield self
        for steps in self.inner.values():
            for step in steps:
                yield from step.every()


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """One pipeline."""

    name: str
    source: str
    """The source module that starts it, or what stands for one (`flows.by_hand`)."""
    schema: str | None
    """`name` or `name@version`; see FlowPlan.schemas."""
    event_type: str | None
    when: str | None
    tenant: str | None
    key: str | None
    partition_by: str | None
    on_invalid: Literal["dead_letter", "skip", "pass"]
    delivery: Literal["at_least_once", "exactly_once"]
    order: Literal["key", "none", "partition"]
    max_parked: int
    """When so many executions wait, the source is not read any further."""
    dead_letter: DeadLetters
    steps: tuple[StepPlan, ...]
    place: Place
    timeout: float | None = None
    """Seconds that an execution may take."""
    saga: Saga | None = None
    """None where it has none, or one that is not enabled."""
    idempotency: Idempotency | None = field(default=None, repr=False)

    @property
    def module(self) -> str | None:
        """The source module that starts it; None: it is started by hand or over the API."""
        return None if self.source == BY_HAND else self.source

    @property
    def retries(self) -> bool:
        """Whether any step, or what undoes it, is tried again: when it fails, or was held back."""
        return self.saga is not None or any(
            (step.retry is not None and step.retry.max_attempts > 1)
            or any(each.may_hold for each in step.every())
            for step in self.steps
        )

    @property
    def keeps_step_keys(self) -> bool:
        """Whether any step is idempotent."""
        steps = [
            *self.every_step(),
            *(each for undo in self.compensations() for each in undo.every()),
        ]
        return any(step.is_idempotent for step in steps)

    @property
    def parks(self) -> bool:
        """Whether its executions may have to wait, for whatever reason."""
        return self.retries or self.idempotency is not None or self.keeps_step_keys

    @property
    def places(self) -> list[str]:
        """Return where an execution may wait, by number: the steps, then in a saga what undoes them."""
        names = [step.name for step in self.steps]
        return names if self.saga is None else names + list(map(compensation_name, names))

    def compensations(self) -> list[StepPlan]:
        """Return what undoes its steps, in the order in which it runs when all steps are done."""
        if self.saga is None:
            return []
        found = [step.compensate for step in self.steps if step.compensate is not None]
        return found if self.saga.compensation_order == "forward" else found[::-1]

    def every_step(self) -> Iterator[StepPlan]:
        """Yield the steps in order, each followed by those inside it."""
        for step in self.steps:
            yield from step.every()

    def everything_run(self) -> Iterator[StepPlan]:
        """Yield every step, then what undoes them, each followed by those inside it."""
        yield from self.every_step()
        for step in self.compensations():
            yield from step.every()


def compensation_name(step: str) -> str:
    """Return the name of what undoes a step."""
    return f"{step}.compensate"


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A module that events come from, with the pipelines they start."""

    name: str
    type: str
    settings: Any
    pipelines: tuple[PipelinePlan, ...]
    place: Place
    archive: Archive | None = None
    """For how long its events are kept, and how much of them; None: it has no archive."""

    @property
    def is_module(self) -> bool:
        """Whether the flow file has it; else it stands for the source of pipelines without one."""
        return self.name != BY_HAND

    @property
    def transactional_sink(self) -> str | None:
        """The sink whose transactions hold this source's positions; None without exactly_once."""
        for pipeline in self.pipelines:
            if pipeline.delivery == "exactly_once":
                for step in pipeline.every_step():
                    if step.type == "step.publish":
                        return str(step.settings.sink)
        return None


@dataclass(frozen=True, slots=True)
class SinkPlan:
    """A module that events can be published to."""

    name: str
    type: str
    settings: Any
    place: Place


@dataclass(frozen=True, slots=True)
class SchemaPlan:
    """A schema that the flow declares."""

    key: str
    """`name` or `name@version`, as its `$ref`s say it."""
    label: str | None
    """What the flow calls its version; None where it says nothing."""
    compatibility: Level | None
    document: Document
    place: Place

    @property
    def subject(self) -> str:
        """Return its subject in the registry."""
        return split_key(self.key)[0]


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """A whole flow."""

    name: str
    version_hash: str
    """16 hexadecimal digits of modules, schemas and pipelines as they are written: the values of
    `${…}` and other secrets are not in it."""
    files: tuple[Path, ...]
    state_url: str = field(repr=False)
    history: HistoryPlan
    server: Server = field(repr=False)
    log: Log
    sources: tuple[SourcePlan, ...] = field(repr=False)
    """Every source module, `pipelines` being empty for one that nothing is triggered by; then, where there
    are pipelines without a source, what stands for theirs."""
    sinks: tuple[SinkPlan, ...] = field(repr=False)
    pipelines: tuple[PipelinePlan, ...] = field(repr=False)
    schemas: SubjectVersions = field(repr=False)
    declared_schemas: tuple[SchemaPlan, ...] = field(repr=False)
    schema_registry: ExternalRegistry | None = field(repr=False)
    """Where its schemas are kept; None: in the state store."""
    secrets: Secrets = field(repr=False)
    unbuilt: tuple[Problem, ...] = field(repr=False)

    @property
    def folder(self) -> Path:
        """Return the first flow file's folder."""
        return self.files[0].resolve().parent

    @property
    def source_modules(self) -> list[SourcePlan]:
        """Return the sources that the flow file has."""
        return [source for source in self.sources if source.is_module]

    def source(self, name: str) -> SourcePlan:
        """Return the source `name`. Raises KeyError."""
        return {source.name: source for source in self.sources}[name]

    def sink(self, name: str) -> SinkPlan:
        """Return the sink module `name`. Raises KeyError."""
        return {sink.name: sink for sink in self.sinks}[name]

    def pipeline(self, name: str) -> PipelinePlan:
        """Return the pipeline `name`. Raises KeyError."""
        return {pipeline.name: pipeline for pipeline in self.pipelines}[name]

    def redact(self, text: str) -> str:
        """Return `text` with every secret of the flow masked."""
        return self.secrets.redact(text)


def load_flow(paths: Sequence[Path], environ: Mapping[str, str] = os.environ) -> FlowPlan:
    """Return the plan of the flow that the files hold together.

    Raises FlowErrors with everything that is wrong. Connects to nothing.
    """
    flow = read_flow(paths, environ)
    model = flow.model
    name = model.name or _name_of(paths[0])
    state_url = _state_url(model, environ, flow)
    server = model.server or Server()
    for token in parse_tokens(server.tokens) if server.tokens else ():
        flow.problems.secrets.add(token.secret)
    modules = flow.configs.modules
    pipelines = tuple(_pipeline(flow, each, model.pipelines[each]) for each in model.pipelines)
    declared_schemas = _schemas(flow)
    archives = {module.name: module.archive for module in model.modules}
    return FlowPlan(
        name=name,
        version_hash=_version_hash(flow),
        files=tuple(Path(path) for path in paths),
        state_url=state_url,
        history=_history(model),
        server=server,
        log=model.log,
        sources=(
            *(
                SourcePlan(
                    module.name,
                    _type(module),
                    module.settings,
                    tuple(each for each in pipelines if each.source == module.name),
                    module.node.place,
                    archives.get(module.name),
                )
                for module in modules.values()
                if module.is_source
            ),
            *_by_hand(pipelines),
        ),
        sinks=tuple(
            SinkPlan(module.name, _type(module), module.settings, module.node.place)
            for module in modules.values()
            if module.is_sink
        ),
        pipelines=pipelines,
        schemas=SubjectVersions(
            validator_of(each.key, each.document, each.label, model.schemas[each.key].type)
            for each in declared_schemas
        ),
        declared_schemas=declared_schemas,
        schema_registry=model.schema_registry,
        secrets=flow.problems.secrets,
        unbuilt=tuple(find_not_built(flow)),
    )


def _by_hand(pipelines: Sequence[PipelinePlan]) -> list[SourcePlan]:
    """Return what stands for the source of pipelines without one, where there are such."""
    found = tuple(each for each in pipelines if each.module is None)
    return [SourcePlan(BY_HAND, BY_HAND_TYPE, None, found, found[0].place)] if found else []


def _schemas(flow: CheckedFlow) -> tuple[SchemaPlan, ...]:
    entries = declared(flow.tree)
    documents = link({key: schema.data_schema for key, schema in flow.model.schemas.items()})
    return tuple(
        SchemaPlan(
            key,
            split_key(key)[1] or (schema.version if "version" in schema.model_fields_set else None),
            schema.compatibility,
            documents[key],
            entries[key].key.place,
        )
        for key, schema in flow.model.schemas.items()
    )


def not_built(plan: FlowPlan) -> list[Problem]:
    """Return what the flow uses that this release does not execute yet; `run` refuses with these."""
    return list(plan.unbuilt)


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(path).stem).strip("-.") or "flow"


def _type(module: ModuleNode) -> str:
    assert module.kind is not None  # noqa: S101 - the flow was checked
    return module.kind.name


def _state_url(model: FlowFile, environ: Mapping[str, str], flow: CheckedFlow) -> str:
    url = environ.get("PENSTOCK_STATE_URL")
    if not url:
        return model.state.url
    flow.problems.secrets.add_address(url)
    try:
        return check_state_url(url)
    except ValueError as error:
        problem = Problem("PENSTOCK_STATE_URL", 1, 1, f"expected {error}.", code="value_invalid")
        raise FlowErrors([problem]) from None


def _history(model: FlowFile) -> HistoryPlan:
    history = model.history
    kind, _, fraction = history.record.rstrip(")").partition("(")
    record: dict[str, Literal["full", "errors", "sampled", "off"]] = {
        "full": "full",
        "errors": "errors",
        "sampled": "sampled",
        "off": "off",
    }
    return HistoryPlan(
        record[kind],
        float(fraction or 1.0),
        history.retention,
        history.max_size,
        tuple(map(parse_redaction, history.redact)),
    )


def _pipeline(flow: CheckedFlow, name: str, model: Pipeline) -> PipelinePlan:
    trigger = model.trigger
    nodes = flow.configs.steps[name]
    undoing = {node.name: node for node in flow.configs.compensations if node.pipeline == name}
    pipelines = flow.tree.mapping("pipelines")
    assert pipelines is not None  # noqa: S101 - it has this one
    return PipelinePlan(
        name=name,
        source=BY_HAND if trigger is None or trigger.source is None else trigger.source,
        schema=trigger.schema_ if trigger else None,
        event_type=trigger.event_type if trigger else None,
        when=trigger.when if trigger else None,
        tenant=model.tenant,
        key=model.key,
        partition_by=model.partition_by,
        on_invalid=model.on_invalid,
        delivery=model.delivery,
        order=model.order,
        max_parked=(model.retry or Retry()).max_parked,
        dead_letter=model.dead_letter,
        steps=_with_outboxes(
            replace(
                _step(
                    step,
                    node,
                    number,
                    retry=_retry(model, step, flow.model),
                    longest=model.timeout,
                ),
                compensate=_compensation(model, step, undoing.get(step.name), flow.model, number),
            )
            for number, (step, node) in enumerate(zip(model.steps, nodes, strict=True))
        ),
        place=pipelines.entries[name].key.place,
        timeout=model.timeout,
        saga=model.saga if model.saga.enabled else None,
        idempotency=model.idempotency,
    )


def _with_outboxes(steps: Iterable[StepPlan]) -> tuple[StepPlan, ...]:
    """Return the steps, database steps with what is published in their transaction."""
    found = list(steps)
    publishes: dict[str, list[StepPlan]] = {}
    for step in found:
        if step.outbox is not None:
            publishes.setdefault(step.settings.outbox.step, []).append(step)
    return tuple(replace(step, publishes=tuple(publishes.get(step.name, ()))) for step in found)


def _compensation(
    pipeline: Pipeline, step: Step, node: StepNode | None, flow: FlowFile, number: int
) -> StepPlan | None:
    """Return what undoes the step numbered so: numbered behind all steps, in their order."""
    if step.compensate is None:
        return None
    assert node is not None  # noqa: S101 - the flow was checked
    # Giving up on it takes a person to mend: it has some tries, even if nobody says so.
    retry = _retry(pipeline, step.compensate, flow) or Retry()
    return replace(
        _step(step.compensate, node, len(pipeline.steps) + number, retry=retry),
        name=compensation_name(step.name),
    )


def _retry(pipeline: Pipeline, step: Step | Compensation, flow: FlowFile) -> Retry | None:
    """Return how often a step is tried: what it says itself, else its module, else its pipeline."""
    used = [module.retry for module in flow.modules if step.use and module.name == step.use]
    said = [each for each in (pipeline.retry, *used, step.retry) if each is not None]
    if not said:
        return None
    merged: dict[str, Any] = {}
    for each in said:
        merged |= {name: getattr(each, name) for name in each.model_fields_set}
    return Retry().model_copy(update=merged)


def _step(
    model: Step | SubStep | Compensation,
    node: StepNode,
    number: int,
    *,
    within: str = "",
    retry: Retry | None = None,
    longest: float | None = None,
) -> StepPlan:
    """Return the plan of a step, none of whose tries takes longer than `longest` seconds."""
    settings = node.settings
    assert settings is not None  # noqa: S101 - the flow was checked
    lowered: dict[str, Any] = {} if node.sink is None else {"sink": node.sink}
    if model.timeout is not None and model.timeout < getattr(settings, "timeout", 0.0):
        lowered["timeout"] = model.timeout
    own = lowered.get("timeout")
    if longest is not None and longest < lowered.get("timeout", getattr(settings, "timeout", 0.0)):
        lowered["timeout"] = longest
    return StepPlan(
        name=node.name,
        number=number,
        type=node.type,
        settings=settings.model_copy(update=lowered) if lowered else settings,
        if_=None if isinstance(model, Compensation) else model.if_,
        skip_if=None if isinstance(model, Compensation) else model.skip_if,
        on_error="fail" if isinstance(model, Compensation) else model.on_error,
        place=node.node.place,
        retry=retry,
        use=model.use,
        timeout=None if own is None else lowered["timeout"],
        within=within,
        inner={
            group: tuple(
                _step(
                    SubStep.model_validate(plain(each.node)),
                    each,
                    place,
                    within=f"{within}{node.name}.",
                    longest=longest,
                )
                for place, each in enumerate(nodes)
            )
            for group, nodes in node.inner.items()
        },
    )


def _version_hash(flow: CheckedFlow) -> str:
    """Hash what the flow says, before substitution, with literal secrets masked."""
    tree = flow.tree
    said = {name: plain(node, raw=True) for name in _VERSIONED if (node := tree.get(name))}
    text = json.dumps(said, sort_keys=True)  # integers of any size, which orjson refuses
    return blake2b(flow.problems.written_secrets.redact(text).encode(), digest_size=8).hexdigest()


__all__ = [
    "FlowErrors",
    "FlowPlan",
    "HistoryPlan",
    "PipelinePlan",
    "Place",
    "Problem",
    "SinkPlan",
    "SourcePlan",
    "StepPlan",
    "load_flow",
    "not_built",
]
