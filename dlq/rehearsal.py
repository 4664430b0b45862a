"""A dry run of a replay: the flow's steps over dead letters, with effects off and nothing stored.

What reads runs (GET, db_query); what changes something outside does not. A step that is held back and
has no output from before ends its execution as *reaching* it: whether it would pass can't be told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from typing_extensions import Self

from connectors.batch import Column
from connectors.contracts import Sink
from connectors.errors import PenstockError, PermanentError
from flows.plan import FlowPlan, PipelinePlan, SourcePlan, StepPlan
from flows.runtime.assemble import assemble_branches, make_step, sinks_of
from flows.runtime.branch import Branch
from flows.runtime.replay_inbox import HALF_UNDONE, PARTLY_DONE
from flows.runtime.replaying import begun, top_step
from flows.runtime.reviving import outputs_of
from flows.runtime.sinks import make_sink
from flows.state.records import DeadLetter
from flows.testing.capture import CaptureSink, PatientHalt, Published, Settled
from transforms.contracts import Step, StepEnvironment
from transforms.executions import UNSET, Executions
from transforms.registry import step_type

Verdict = Literal["passes", "fails", "reaches", "skipped", "not_triggered", "returned"]

_HELD_BACK = "effect_suppressed"


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a replay of one dead letter would come to now."""

    letter: DeadLetter
    verdict: Verdict
    step: str | None = None
    """Where it fails, or the step with an effect that it reaches."""
    error_code: str = ""
    error_message: str = ""


@dataclass(slots=True)
class Group:
    """Dead letters that failed alike and would fare alike now."""

    was: str
    verdict: Verdict
    step: str | None
    now: str
    count: int = 0
    sample: str = ""
    """The id of one of them."""
    message: str = ""


@dataclass(slots=True)
class Report:
    """A dry run's verdicts, grouped."""

    total: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    groups: dict[tuple[Any, ...], Group] = field(default_factory=dict)

    def add(self, rehearsed: Iterable[Rehearsed]) -> None:
        """Add what a page has come to."""
        for each in rehearsed:
            self.total += 1
            self.verdicts[each.verdict] += 1
            was = each.letter.error_code
            key = (was, each.verdict, each.step, each.error_code)
            group = self.groups.setdefault(
                key, Group(was, each.verdict, each.step, each.error_code)
            )
            group.count += 1
            group.sample = group.sample or each.letter.id
            group.message = group.message or each.error_message

    def sorted(self) -> list[Group]:
        """Return the groups, the largest first."""
        return sorted(self.groups.values(), key=lambda group: -group.count)


class Rehearsal:
    """Runs dead letters through their pipelines; a context manager that closes the steps."""

    def __init__(self, plan: FlowPlan, *, from_step: bool = False) -> None:
        self._plan = replace(plan, history=replace(plan.history, record="off"))
        self._from_step = from_step
        self._opened = ExitStack()
        self._branches: dict[str, tuple[PipelinePlan, Branch]] = {}
        self._halt = PatientHalt()
        self._settled = Settled()
        self._published: list[Published] = []
        self._outputs: list[Mapping[str, Any]] = []
        """What the steps of the letters at hand had put out before they failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the steps."""
        self._opened.close()

    def run(
        self,
        letters: Sequence[DeadLetter],
        edited: Sequence[str | None],
        half_undone: Collection[str] = (),
    ) -> list[Rehearsed]:
        """Return what would come of these. Raises PenstockError for what would stop the worker.

        `half_undone`: ids of those whose saga somebody has to see to first.
        """
        groups: dict[str, list[int]] = {}
        found: dict[int, Rehearsed] = {}
        for place, letter in enumerate(letters):
            if letter.id in half_undone:
                found[place] = Rehearsed(letter, "returned", None, "saga_unfinished", HALF_UNDONE)
            else:
                groups.setdefault(letter.pipeline, []).append(place)
        for name, places in groups.items():
            group = [letters[place] for place in places]
            verdicts = self._run(name, group, [edited[place] for place in places])
            found.update(zip(places, verdicts, strict=True))
        return [found[place] for place in range(len(letters))]

    def _run(
        self, name: str, letters: list[DeadLetter], edited: list[str | None]
    ) -> list[Rehearsed]:
        known = self._branch(name)
        if known is None:
            why = f"the flow no longer has the pipeline {name}, or nothing triggers it."
            return [Rehearsed(each, "returned", None, "pipeline_gone", why) for each in letters]
        pipeline, branch = known
        if not pipeline.dead_letter.replayable:
            why = f"pipeline {name} says dead_letter.replayable: false."
            return [Rehearsed(each, "returned", None, "not_replayable", why) for each in letters]
        if self._from_step and pipeline.saga is not None:
            why = f"pipeline {name} has a saga, which has undone the steps before the failed one."
            return [Rehearsed(each, "returned", None, "replay_from_step", why) for each in letters]
        if pipeline.saga is not None and any(each.begins_at for each in letters):
            why = PARTLY_DONE.format(name)
            return [
                Rehearsed(each, "returned", None, "replay_from_step", why)
                if each.begins_at
                else self._run(name, [each], [edit])[0]
                for each, edit in zip(letters, edited, strict=True)
            ]
        self._outputs = [outputs_of(letter) for letter in letters]
        places = range(len(letters)) if self._from_step else ()
        executions, first = begun(letters, edited, pipeline, branch, from_step=places)
        executions.jumps.update({index: number for index, number in first.items() if number})
        for runner in branch.steps:
            runner(executions)
        self._published.clear()
        if self._halt.error is not None:
            raise self._halt.error
        return [
            self._verdict(executions, index, letter, pipeline)
            for index, letter in enumerate(letters)
        ]

    def _verdict(
        self, executions: Executions, index: int, letter: DeadLetter, pipeline: PipelinePlan
    ) -> Rehearsed:
        ended = executions.ended.get(index)
        if ended is None or ended.outcome == "repeated":  # all that was missing is published
            failed = None if letter.step is None else top_step(letter.step)
            kinds = {step.name: step.type for step in pipeline.steps}
            if failed is not None and kinds.get(failed) == "step.publish":
                return Rehearsed(letter, "reaches", failed)  # its sink was not asked
            return Rehearsed(letter, "passes")
        if ended.outcome == "skipped":
            return Rehearsed(letter, "skipped")
        if ended.outcome == "not_triggered":
            return Rehearsed(letter, "not_triggered")
        error: PenstockError | None = ended.error
        code = error.code if error else "failed_without_error"
        if code == _HELD_BACK:
            return Rehearsed(letter, "reaches", ended.step)
        message = self._plan.redact(error.message) if error else ""
        return Rehearsed(letter, "fails", ended.step, code, message)

    def _branch(self, name: str) -> tuple[PipelinePlan, Branch] | None:
        """Return a pipeline and its steps, made once, and None for one that is not run."""
        if name not in self._branches:
            source = next(
                (s for s in self._plan.sources if any(p.name == name for p in s.pipelines)), None
            )
            if source is None:
                return None
            pipeline = next(each for each in source.pipelines if each.name == name)
            steps = tuple(replace(step, retry=None) for step in pipeline.steps)
            pipeline = replace(pipeline, steps=steps)
            self._branches[name] = pipeline, self._assembled(source, pipeline)
        return self._branches[name]

    def _assembled(self, source: SourcePlan, pipeline: PipelinePlan) -> Branch:
        sinks: dict[str, Sink] = {}
        for name in sinks_of(pipeline):
            sink = self._plan.sink(name)
            sinks[name] = CaptureSink(sink, self._published, make_sink(sink).traits)
        (branch,) = assemble_branches(
            self._plan,
            replace(source, pipelines=(pipeline,)),
            sinks,
            committer=self._settled,
            halt=self._halt,
            opened=self._opened,
            marks={},
            parkings={},
            make=self._step,
        )
        return branch

    def _step(self, plan: StepPlan, environment: StepEnvironment) -> Step:
        if plan.type == "step.publish" or plan.inner or not plan.acts:
            return make_step(plan, environment)
        return _HeldBack(plan, self)

    def output_of(self, index: int, step: str) -> Any:
        """Return what a step put out before its dead letter failed; UNSET where it did not run."""
        return self._outputs[index].get(step, UNSET) if index < len(self._outputs) else UNSET


class _HeldBack:
    """Stands where a step would change something outside."""

    def __init__(self, plan: StepPlan, rehearsal: Rehearsal) -> None:
        kind = step_type(plan.type)
        self.has_output = kind is None or kind.has_output
        self._plan = plan
        self._rehearsal = rehearsal

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return what it put out before; where it did not, the execution goes no further."""
        if not self.has_output:
            return []
        plan = self._plan
        out: Column = []
        for index in indexes:
            # In a loop the indexes are passes, not dead letters.
            known = UNSET if plan.within else self._rehearsal.output_of(index, plan.name)
            if known is UNSET:
                executions.failures[index] = PermanentError(
                    f"step {plan.name} has an effect, and was held back.",
                    code="effect_suppressed",
                    hint="This is a dry run: a replay would run it.",
                )
            out.append(known)
        return out

    def close(self) -> None:
        """Nothing is held."""
