"""Makes the real things that a plan names: sources, sinks, steps, opened and ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from connectors.contracts import Opening, Reader, Sink, SinkOpening, Source
from connectors.errors import FatalError
from connectors.registry import connector_type
from flows.by_hand import ByHand
from flows.runtime.branch import Branch
from flows.runtime.compensating import Compensation
from flows.runtime.halt import Halt
from flows.runtime.happenings import Happenings, PipelineHappenings
from flows.runtime.ingest import Ingest
from flows.runtime.parking import Parking
from flows.runtime.runners import RunnerMaker
from flows.runtime.saga_rules import is_tracked
from flows.runtime.sagas import Sagas
from flows.runtime.settle import Outcomes, Settle
from flows.runtime.signals import Boundary, Signalling
from flows.runtime.sinks import evaluator, make_sink, renderer
from flows.runtime.stepping import Around
from flows.runtime.time_limit import TimeLimit
from flows.spec.redactions import data_masker
from flows.state.records import Lease
from schema_registry.validation import REDACTED, Validator
from transforms.contracts import Step, StepEnvironment
from transforms.expressions import compile_jq
from transforms.registry import step_type

if TYPE_CHECKING:
    from flows.plan import FlowPlan, PipelinePlan, SourcePlan, StepPlan
    from flows.runtime.exchange import Marks
    from flows.runtime.key_keeping import PipelineKeys
    from flows.runtime.spread import DueHere


def make_source(plan: SourcePlan) -> Source:
    """Return the source of a module, or what stands for one, not yet connected."""
    if not plan.is_module:
        return ByHand()
    found = connector_type(plan.type)
    assert found is not None  # noqa: S101 - the plan was checked when it was loaded
    assert found.source is not None  # noqa: S101 - `run` refuses types without a factory
    return found.source(plan.name, plan.settings)


def sinks_of(pipeline: PipelinePlan, *, relayed: bool = True) -> list[str]:
    """Return the sink modules that the pipeline publishes to, each once, in order.

    Not `relayed`: without those that only outboxes are published to.
    """
    used = [
        step.settings.sink
        for step in pipeline.everything_run()
        if step.type == "step.publish" and (relayed or step.outbox is None)
    ]
    return list(dict.fromkeys(used))


def open_source(plan: SourcePlan, opening: Opening) -> Reader:
    """Return an open reader. Raises FatalError."""
    return make_source(plan).open(opening)


def open_sinks(
    plan: FlowPlan,
    source: SourcePlan,
    states: Mapping[str, Mapping[str, str]],
    writers: Mapping[str, str],
    opened: ExitStack,
    *,
    before: Mapping[str, Sink],
    meanwhile: Callable[[], None] | None = None,
) -> dict[str, Sink]:
    """Open each sink that the source's pipelines publish to; `opened` closes them.

    `before`: those that are open already. `meanwhile`: see `SinkOpening`.
    """
    sinks = dict(before)
    for pipeline in source.pipelines:
        for name in sinks_of(pipeline, relayed=False):
            if name in sinks:
                continue
            sink = make_sink(plan.sink(name))
            sink.open(
                SinkOpening(
                    state=states.get(name, {}),
                    writer=writers.get(name, ""),
                    compile_template=renderer,
                    compile_jq=evaluator,
                    flow=plan.name,
                    meanwhile=meanwhile,
                )
            )
            opened.callback(sink.close)
            sinks[name] = sink
    return sinks


IN_USE: Final = "file_in_use"
"""Code of the error with which a sink is refused whose files another process has open."""


def open_sinks_when_free(
    open_them: Callable[[ExitStack], dict[str, Sink]],
    lease: Lease,
    opened: ExitStack,
    wait: Callable[[str], bool],
) -> dict[str, Sink] | None:
    """Open sinks; wait while the worker that the lease was taken from still has their files open.

    It may be stopped, or not know yet: what it writes now is cut back when they are opened, so they are
    not before it is gone. `wait` gets the reason, and returns whether to give up: then the result is
    None. Raises PenstockError.
    """
    while True:
        try:
            with ExitStack() as attempt:
                sinks = open_them(attempt)
                opened.push(attempt.pop_all())
                return sinks
        except FatalError as error:
            if error.code != IN_USE or not lease.taken_from:
                raise
            if wait(error.message):
                return None


def make_step(plan: StepPlan, environment: StepEnvironment) -> Step:
    """Return the step, ready to run. Raises FlowFileError for what only shows when it is made."""
    kind = step_type(plan.type)
    assert kind is not None  # noqa: S101 - the plan was checked when it was loaded
    assert kind.make is not None  # noqa: S101 - `run` refuses types without a factory
    return kind.make(plan.settings, environment)


def assemble_branches(
    plan: FlowPlan,
    source: SourcePlan,
    sinks: Mapping[str, Sink],
    *,
    committer: Outcomes,
    halt: Halt,
    opened: ExitStack,
    marks: Mapping[str, Marks],
    parkings: Mapping[str, Parking],
    sagas: Mapping[str, Sagas] = MappingProxyType({}),
    keys: Mapping[str, PipelineKeys] = MappingProxyType({}),
    relay: Callable[[StepPlan], Callable[[], None]] | None = None,
    signals: Signalling | None = None,
    due: Mapping[str, DueHere] = MappingProxyType({}),
    happenings: Happenings | None = None,
    make: Callable[[StepPlan, StepEnvironment], Step] = make_step,
) -> list[Branch]:
    """Return the branches of the source's pipelines, their steps made; `opened` closes them.

    `marks`: pipeline → how far this process has settled its share, in a cluster, and `due`: what is due here
    of each that is spread; `parkings`: pipeline → what waits of it here; `sagas`: pipeline → its sagas, of each that has them; `keys`: pipeline → who
    keeps its idempotency keys; `signals`: what operators ask of executions; `happenings`: what is told of steps while somebody watches;
    `relay`: database step → what wakes the relay of its outbox, without
    which publish steps deliver to `sinks` themselves. `make` makes the steps; tests of a flow put others in the place of those that reach outside.
    """
    common: dict[str, dict[str, Any]] = {}
    branches = [
        _branch(
            plan,
            source,
            each,
            sinks,
            common=common,
            committer=committer,
            halt=halt,
            opened=opened,
            make=make,
            parking=parkings[each.name] if each.name in parkings else Parking(),
            sagas=sagas.get(each.name),
            keys=keys.get(each.name),
            relay=relay,
            signals=None if _is_spread(each, marks) else signals,
            spread=_is_spread(each, marks),
            happenings=None if happenings is None else happenings.of(each, source.type),
        )
        for each in source.pipelines
    ]
    return [
        replace(branch, marks=marks.get(branch.name), due=due.get(branch.name))
        for branch in branches
    ]


def _is_spread(pipeline: PipelinePlan, marks: Mapping[str, Marks]) -> bool:
    return bool(pipeline.partition_by) and pipeline.name in marks


def _branch(
    plan: FlowPlan,
    source: SourcePlan,
    pipeline: PipelinePlan,
    sinks: Mapping[str, Sink],
    *,
    common: dict[str, dict[str, Any]],
    committer: Outcomes,
    halt: Halt,
    opened: ExitStack,
    make: Callable[[StepPlan, StepEnvironment], Step],
    parking: Parking,
    sagas: Sagas | None,
    keys: PipelineKeys | None,
    relay: Callable[[StepPlan], Callable[[], None]] | None,
    signals: Signalling | None,
    spread: bool,
    happenings: PipelineHappenings | None,
) -> Branch:
    limit = None if pipeline.timeout is None else TimeLimit(pipeline.timeout)
    maker = RunnerMaker(
        plan,
        pipeline.name,
        sinks,
        halt,
        opened,
        make,
        common=common,
        limit=limit,
        relay=relay,
        happenings=happenings,
    )
    validator = _validator(plan, pipeline.schema) if pipeline.schema else None
    used = {name: sinks[name] for name in sinks_of(pipeline, relayed=relay is None)}
    if sagas is not None:
        maker = replace(maker, around=_watching(sagas))
        sagas.published_anew = _published_anew(pipeline, used)
    once = None if keys is None else keys.once(pipeline, halt, parking)
    step_keys = None if keys is None else keys.of_steps(pipeline)
    if step_keys is not None:
        maker = replace(maker, once=step_keys.around)
    ingest = Ingest(
        pipeline,
        plan.name,
        validator,
        reads_data=_reads_data(source, pipeline, used),
        parking=parking,
        spread=spread,
        mask=data_masker(plan.history.redact, REDACTED),
    )
    if signals is not None:
        boundary = Boundary(signals, pipeline.places, ingest.keep_lanes)
        maker = replace(maker, signals=boundary)
    steps = maker.runners(pipeline.steps)
    return Branch(
        name=pipeline.name,
        ingest=ingest,
        steps=steps,
        settle=Settle(
            plan,
            source,
            pipeline,
            sinks=used,
            committer=committer,
            halt=halt,
            parking=parking,
            sagas=sagas,
            keys=[each.settle for each in (once, step_keys) if each is not None],
        ),
        partition_by=compile_jq(pipeline.partition_by) if pipeline.partition_by else None,
        once=once,
        step_keys=step_keys,
        sagas=sagas,
        compensation=None
        if sagas is None
        else Compensation(pipeline, sagas, maker.compensations(pipeline, steps), halt, plan.redact),
    )


def _watching(sagas: Sagas) -> Callable[[StepPlan], Around | None]:
    """Return what tells which of a pipeline's own steps a saga keeps record of."""
    return lambda step: sagas.run if not step.within and is_tracked(step) else None


def _published_anew(pipeline: PipelinePlan, sinks: Mapping[str, Sink]) -> set[str]:
    """Return the steps that publish to sinks which undo after a crash what was not settled."""
    return {
        step.name
        for step in pipeline.steps
        for inner in step.every()
        if inner.type == "step.publish"
        and sinks[inner.settings.sink].traits.delivery != "at_least_once"
    }


def _validator(plan: FlowPlan, name: str) -> Validator:
    return plan.schemas.validator(name)


def _reads_data(source: SourcePlan, pipeline: PipelinePlan, sinks: Mapping[str, Sink]) -> bool:
    """Whether anything in the pipeline needs the events' data decoded, or known to be JSON.

    Values that are only passed on stay unread; but what a sink embeds in a JSON envelope must be
    JSON, and a source whose data is JSON by construction vouches for that.
    """
    if pipeline.idempotency or pipeline.when or pipeline.key or pipeline.tenant or pipeline.schema:
        return True
    for step in pipeline.steps:
        if step.type != "step.publish" or step.if_ or step.skip_if:
            return True
        settings = step.settings
        if settings.data_from or settings.key or settings.schema_ or settings.idempotency_key:
            return True
    embedded = any(sink.traits.embeds for sink in sinks.values())
    return embedded and not make_source(source).traits.json
