"""A recorded execution asked for again: an entry of a replay, like a dead letter's.

It is added as a dead letter that says so (`replay_requested`), and from there on a replay is a replay:
recorded, in order with live events, surviving crashes. Done, it is gone; failed, it is a dead letter with
that error; not run, it is gone too, and the replay tells why. An execution that is a dead letter is
replayed as that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from connectors.errors import FlowFileError, PermanentError
from flows.history.finding import find_execution
from flows.history.recorded import Recorded
from flows.history.steps import steps_of
from flows.plan import FlowPlan, PipelinePlan
from flows.runtime.replaying import top_step
from flows.state.contracts import StateStore
from flows.state.letters import dead_letter
from flows.state.records import DeadLetter
from flows.state.replay_outcomes import REPLAY_REQUESTED
from transforms.executions import Ended, Executions


@dataclass(frozen=True, slots=True)
class Again:
    """An execution that is to run again."""

    recorded: Recorded
    letter: DeadLetter
    """What is replayed."""
    is_new: bool
    """Whether the letter is made for this, and not in the store yet."""

    def add(self, store: StateStore) -> None:
        """Have the store know what is to be replayed."""
        if self.is_new:
            self.withdraw(store)  # what was asked for before, and never begun
            store.letters.add([self.letter])

    def withdraw(self, store: StateStore) -> None:
        """Take it back, if no replay has it."""
        if self.is_new:
            store.letters.remove(self.letter.flow, [self.letter.id])


def asked_again(
    store: StateStore,
    flow: str,
    id_prefix: str,
    *,
    now: float,
    plan: FlowPlan | None,
    from_step: str | None = None,
) -> Again:
    """Return what a replay of an execution is to replay; `from_step`: where it goes on.

    Raises FlowFileError: `execution_unknown`, `replay_not_possible`, `replay_not_allowed`.
    """
    recorded = find_execution(store, flow, id_prefix)
    pipeline = _allowed(recorded, plan)
    if recorded.parked is not None:
        raise _impossible(recorded, "it waits, and goes on by itself.")
    known = next((x for x in store.dead_letter(flow, recorded.id) if x.id == recorded.id), None)
    if known is not None and not _never_begun(known):
        if from_step is not None and from_step != top_step(known.step or ""):
            raise _impossible(
                recorded,
                "it is a dead letter: it goes on at the step that failed, or at the first.",
            )
        return Again(recorded, known, is_new=False)
    if recorded.redacted:
        raise _impossible(recorded, "something of it was masked before it was recorded.")
    if from_step is not None:
        _check_step(recorded, pipeline, from_step)
    return Again(recorded, _letter(recorded, from_step, now), is_new=True)


def _never_begun(letter: DeadLetter) -> bool:
    """Whether it is of somebody who asked for a replay, and was cut off before it was recorded."""
    return letter.error_code == REPLAY_REQUESTED and letter.status == "waiting"


def _allowed(recorded: Recorded, plan: FlowPlan | None) -> PipelinePlan | None:
    """Return the pipeline as it is now; None where the flow file is not at hand."""
    if plan is None:
        return None
    known = {pipeline.name: pipeline for pipeline in plan.pipelines}
    pipeline = known.get(recorded.pipeline)
    if pipeline is None:
        raise _impossible(recorded, f"the flow no longer has the pipeline {recorded.pipeline}.")
    if not pipeline.dead_letter.replayable:
        raise FlowFileError(
            f"pipeline {pipeline.name} does not let its events be replayed.",
            code="replay_not_allowed",
            hint="It says dead_letter.replayable: false.",
        )
    return pipeline


def _check_step(recorded: Recorded, pipeline: PipelinePlan | None, step: str) -> None:
    steps = {each.name: each for each in steps_of(recorded)}
    names = list(steps) if pipeline is None else [each.name for each in pipeline.steps]
    if step not in names:
        raise _impossible(
            recorded, f"there is no step {step}; the pipeline has {', '.join(names)}."
        )
    if pipeline is not None and pipeline.saga is not None:
        raise _impossible(recorded, "its pipeline has a saga: it begins anew, from the first step.")
    if step not in steps or steps[step].status in {"skipped", "not_reached"}:
        raise _impossible(recorded, f"it did not come to step {step}.")


def _letter(recorded: Recorded, from_step: str | None, now: float) -> DeadLetter:
    """Return the entry: the event as it came, and the outputs of the steps before `from_step`."""
    was, index = recorded.executions, recorded.index
    asked = PermanentError(
        "a replay of this execution was asked for; it had not failed.",
        code="replay_requested",
        hint="`penstock dlq replays` says how far it is.",
    )
    before = _before(recorded, from_step)
    executions = Executions(
        was.events,
        was.pipeline,
        outputs={name: column for name, column in was.outputs.items() if name in before},
        details={name: column for name, column in was.details.items() if name in before},
        ended={index: Ended("failed", from_step, asked)},
        runs=was.runs,
    )
    letter = dead_letter(
        executions,
        index,
        flow=recorded.flow,
        flow_version=recorded.flow_version,
        source_module=recorded.source,
        tenant=recorded.tenant,
        now=now,
    )
    return replace(letter, id=recorded.id, attempts=0)


def _before(recorded: Recorded, from_step: str | None) -> set[str]:
    """Return the names under which there are outputs of earlier steps."""
    names: set[str] = set()
    if from_step is None:
        return names
    for step in steps_of(recorded):
        if step.name == from_step:
            break
        names.add(step.name)
    return names


def _impossible(recorded: Recorded, why: str) -> FlowFileError:
    return FlowFileError(
        f"execution {recorded.id} can't be replayed so: {why}",
        code="replay_not_possible",
        hint="`penstock executions timeline` shows its steps.",
    )
