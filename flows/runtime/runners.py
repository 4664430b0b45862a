"""Makes the steps of a pipeline and those inside them, each with what runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from connectors.contracts import Sink, SinkOpening
from flows.runtime.halt import Halt
from flows.runtime.happenings import PipelineHappenings
from flows.runtime.late_sink import LateSink
from flows.runtime.signals import Boundary
from flows.runtime.sinks import evaluator, make_sink, renderer
from flows.runtime.stepping import Around, StepRunner
from flows.runtime.time_limit import TimeLimit
from flows.state.bodies import encode_each
from transforms.contracts import Step, StepEnvironment
from transforms.expressions import compile_jq
from transforms.steps.outbox import Composed, Outbox
from transforms.steps.publish import Composer

if TYPE_CHECKING:
    from flows.plan import FlowPlan, PipelinePlan, StepPlan


def _nothing(_step: StepPlan) -> None:
    """No step has anything around it."""


@dataclass(frozen=True, slots=True)
class RunnerMaker:
    """Makes runners for one pipeline in one worker; `opened` closes their steps.

    `around` tells what keeps record of a step's effects, `once` what lets it act once per key.
    """

    plan: FlowPlan
    pipeline: str
    sinks: Mapping[str, Sink]
    halt: Halt
    opened: ExitStack
    make: Callable[[StepPlan, StepEnvironment], Step]
    around: Callable[[StepPlan], Around | None] = _nothing
    once: Callable[[StepPlan], Around | None] = _nothing
    limit: TimeLimit | None = None
    signals: Boundary | None = None
    """What operators' signals do to executions between two steps."""
    happenings: PipelineHappenings | None = None
    """What its steps tell of while somebody watches."""
    common: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Step module → what the steps of this worker that use it have in common."""
    relay: Callable[[StepPlan], Callable[[], None]] | None = None
    """Database step with an outbox → what wakes its relay. None: publish steps deliver themselves."""

    def runners(
        self,
        steps: Sequence[StepPlan],
        earlier: Sequence[str] = (),
        *,
        apart: bool = False,
    ) -> list[StepRunner]:
        """Return runners of the steps of one list, in order.

        `earlier` are the outputs that the list can read from outside; each step reads those of
        the steps before it too, unless `apart`. Raises FlowFileError.
        """
        numbers = {step.name: step.number for step in steps}
        known = list(earlier)
        runners = []
        for step in steps:
            readable = tuple(earlier if apart else known)
            runner = self.runner(step, numbers, readable)
            known += [name for name in runner.outputs if name not in known]
            runners.append(runner)
        return runners

    def compensations(
        self, pipeline: PipelinePlan, steps: Sequence[StepRunner]
    ) -> list[StepRunner]:
        """Return runners of what undoes the pipeline's `steps`: each reads all their outputs."""
        readable = tuple(dict.fromkeys(name for runner in steps for name in runner.outputs))
        plain = replace(self, around=_nothing, limit=None, signals=None, happenings=None)
        return [plain.runner(each, {}, readable) for each in pipeline.compensations()]

    def runner(
        self, step: StepPlan, numbers: Mapping[str, int], earlier: Sequence[str]
    ) -> StepRunner:
        """Return the runner of one step, which can read the outputs `earlier`."""
        inner: list[StepRunner] = []

        def make_inner(
            group: str, earlier: Sequence[str], *, apart: bool = False
        ) -> Sequence[StepRunner]:
            made = self.runners(step.inner.get(group, ()), earlier, apart=apart)
            inner.extend(made)
            return made

        environment = StepEnvironment(
            flow=self.plan.name,
            pipeline=self.pipeline,
            name=step.name,
            number=step.number,
            numbers=numbers,
            earlier=earlier,
            sinks=self.sinks,
            validator=self.plan.schemas.validator,
            folder=self.plan.folder,
            inner=make_inner,
            within=step.within,
            redact=self.plan.redact,
            module=step.use,
            common=self.common.setdefault(step.use, {}) if step.use else None,
            relayed=self.relay is not None and step.outbox is not None,
        )
        if environment.relayed:
            sink = self._late(step.settings.sink)
            environment = replace(environment, sinks={step.settings.sink: sink})
        if step.publishes and self.relay is not None:
            outbox = self._outbox(step, environment, self.relay(step))
            environment = replace(environment, outbox=outbox)
        made = self.make(step, environment)
        self.opened.callback(made.close)
        return StepRunner(
            step,
            made,
            self.halt,
            inner,
            last=step.number == len(numbers) - 1,
            around=self.around(step),
            once=self.once(step),
            # An event in an outbox is published, whatever the time: its change is made.
            limit=None if environment.relayed else self.limit,
            redact=self.plan.redact,
            signals=None if step.within or environment.relayed else self.signals,
            happenings=None if step.within or environment.relayed else self.happenings,
        )

    def _late(self, name: str) -> Sink:
        """Return the sink to which a replay publishes what left an outbox and was refused."""
        opening = SinkOpening(
            state={}, compile_template=renderer, compile_jq=evaluator, flow=self.plan.name
        )
        sink = LateSink(partial(make_sink, self.plan.sink(name)), opening)
        self.opened.callback(sink.close)
        return sink

    def _outbox(
        self, step: StepPlan, environment: StepEnvironment, wake: Callable[[], None]
    ) -> Outbox:
        """Return what a database step publishes with its change."""
        composed = []
        for each in step.publishes:
            readable = (*environment.earlier, step.name)
            own = replace(environment, name=each.name, number=each.number, earlier=readable)
            composed.append(
                Composed(
                    each.name,
                    each.settings.sink,
                    Composer(each.settings, own).compose,
                    compile_jq(each.if_) if each.if_ else None,
                    compile_jq(each.skip_if) if each.skip_if else None,
                )
            )
        copies = self.plan.pipeline(self.pipeline).dead_letter.sink is not None
        (table,) = {str(each.outbox) for each in step.publishes}
        return Outbox(
            step.name,
            composed,
            flow=self.plan.name,
            pipeline=self.pipeline,
            table=table,
            wake=wake,
            pack=partial(encode_each, with_arrivals=copies),
        )
