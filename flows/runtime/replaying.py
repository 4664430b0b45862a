"""Replays on the dataflow's thread: what has come into the inbox is parked, due now, in its lane.

From there on it is an execution like any other that waits (`resuming.py`): live events of its key wait
behind it, a retry waits as retries do, a crash finds it in the state store. Only its outcome says that
it was a dead letter (`settle.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from connectors.batch import Column
from flows.plan import PipelinePlan
from flows.runtime.branch import Branch
from flows.runtime.committer import Committer
from flows.runtime.parking import Parking
from flows.runtime.replay_inbox import ReplayInbox
from flows.runtime.resuming import step_gone
from flows.runtime.reviving import details_of, outputs_of, revived
from flows.state.records import DeadLetter, ReplayLink
from flows.state.replays import Taken
from transforms.executions import UNSET, Ended, Executions, Wait
from transforms.steps.outbox import mark_refused

_PARKED = Ended("parked")
_FIRST = re.compile(r"[^.\[]+")


class Replaying:
    """The replays of one worker."""

    def __init__(
        self,
        pipelines: Sequence[PipelinePlan],
        branches: Sequence[Branch],
        parkings: Mapping[str, Parking],
        committer: Committer,
        inbox: ReplayInbox,
    ) -> None:
        self._pipelines = {pipeline.name: pipeline for pipeline in pipelines}
        self._branches = {branch.name: branch for branch in branches}
        self._parkings = parkings
        self._committer = committer
        self._inbox = inbox

    def have_come(self) -> bool:
        """Whether entries have come that are to be parked. Called once between two epochs."""
        self._inbox.tell_outstanding(self._outstanding())
        return self._inbox.has_come

    def park(self) -> None:
        """Park what has come, in a transaction of its own; no other outcome may be open then."""
        inbox = self._inbox
        groups: dict[str, list[Taken]] = {}
        for taken in inbox.take():
            groups.setdefault(taken.letter.pipeline, []).append(taken)
        for name, group in groups.items():
            branch = self._branches[name]
            branch.settle(_parked(group, self._pipelines[name], branch))
        ticket = self._committer.ticket
        self._committer.checkpoint({})
        inbox.parked(ticket)

    def unfinished(self) -> bool:
        """Whether a replay waits in the inbox or is parked."""
        inbox = self._inbox
        return inbox.has_come or not inbox.is_empty or self._outstanding() > 0

    def _outstanding(self) -> int:
        return sum(parking.replays for parking in self._parkings.values())


def _parked(group: Sequence[Taken], pipeline: PipelinePlan, branch: Branch) -> Executions:
    """Return executions of dead letters, each parked or, where its event is refused, ended."""
    executions, first = begun(
        [each.letter for each in group],
        [each.edited for each in group],
        pipeline,
        branch,
        from_step={index for index, each in enumerate(group) if each.from_step},
    )
    for index, taken in enumerate(group):
        link = ReplayLink(taken.replay, taken.letter.id, taken.by)
        executions.replays[index] = link
        executions.runs[index] = link.run_of(executions.first_id(index))
    for index, number in first.items():
        executions.waits[index] = Wait(number)
        executions.end(index, _PARKED)
    return executions


def begun(
    letters: Sequence[DeadLetter],
    edited: Sequence[str | None],
    pipeline: PipelinePlan,
    branch: Branch,
    *,
    from_step: Collection[int] = (),
) -> tuple[Executions, dict[int, int]]:
    """Return executions of dead letters of a pipeline, and the step that each begins with.

    Those whose event is refused have ended. `from_step`: the places of those that go on at the
    step that failed, with the outputs so far. Dead letters of an outbox always do.
    """
    executions = branch.ingest.replayed(revived(letters, edited))
    for index, letter in enumerate(letters):
        # Also of one whose event is refused here: it still has its outputs then.
        if letter.begins_at is not None:
            _take_up(executions, index, letter)
            mark_refused(executions, letter.begins_at, index)
    numbers = {step.name: step.number for step in pipeline.steps}
    first: dict[int, int] = {}
    for index in executions.going(0):
        letter = letters[index]
        first[index] = 0
        step = letter.begins_at
        if step is None:
            # What a saga had done is undone: it begins anew.
            if index not in from_step or letter.step is None or pipeline.saga is not None:
                continue
            step = top_step(letter.step)
        if step in numbers:
            first[index] = numbers[step]
            if letter.begins_at is None:
                _take_up(executions, index, letter)
        else:
            del first[index]
            executions.end(index, Ended("failed", step, step_gone(step, pipeline)))
    return executions, first


def _take_up(executions: Executions, index: int, letter: DeadLetter) -> None:
    """Put back what its steps had put out."""
    _restore(executions.outputs, executions, index, outputs_of(letter), UNSET)
    _restore(executions.details, executions, index, details_of(letter), None)


def top_step(place: str) -> str:
    """Return the pipeline's own step that a place is in: `lines` for `lines[3].charge`."""
    found = _FIRST.match(place)
    return found[0] if found else place


def _restore(
    columns: dict[str, Column],
    executions: Executions,
    index: int,
    values: Mapping[str, object],
    absent: object,
) -> None:
    for name, value in values.items():
        column = columns.setdefault(name, [absent] * executions.events.size)
        column[index] = value
