"""Sagas of one pipeline in one worker: taken up at the start, stored around each effect, ended in settle.

    ingest ── take_up ── step ── step ── step ── compensate ── settle
                          │       │       │           │           │
               before: started; after: done      each started,    compensated, or failed:
                  (one transaction a batch)         then done     in the settle transaction

Belongs to the dataflow's thread, and so does its store. What the state store can't take just now is
waited for: no effect happens that is not announced there first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from connectors.batch import Column
from connectors.errors import FatalError, PenstockError, PermanentError
from connectors.failpoints import fail_point
from flows.runtime.committer import PATIENCE
from flows.runtime.halt import Halt
from flows.runtime.saga_rules import after_crash, may_have_acted, may_run_again, turn_of
from flows.runtime.stepping import Attempt
from flows.runtime.waiting_for_store import until_it_answers
from flows.state.bodies import encode_each
from flows.state.errors import error_of
from flows.state.records import Settlement
from flows.state.sagas import Saga, StepProgress
from transforms.executions import UNSET, Ended, Executions, Wait

if TYPE_CHECKING:
    from flows.plan import PipelinePlan, StepPlan

AT_RISK = 64
"""Executions that run a step together which may not be run again: what a crash leaves in doubt. More
would save transactions, and leave more for people to look into."""


class SagaKeeper(Protocol):
    """Where progress is kept: the state store, or the memory of a test of a flow."""

    def save(self, sagas: Sequence[Saga]) -> None:
        """Store progress in one transaction. Raises RetryableError, FatalError."""

    def load(self, pipeline: str, ids: Sequence[str]) -> list[Saga]:
        """Return the sagas with these ids, those that there are. Raises as `save` does."""


class Sagas:
    """The sagas of one pipeline."""

    def __init__(
        self,
        plan: PipelinePlan,
        keeper: SagaKeeper,
        halt: Halt,
        *,
        unfinished: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`unfinished`: ids of those that were in flight or waited when this worker started."""
        assert plan.saga is not None  # noqa: S101 - nobody asks for one that it hasn't
        self._plan = plan
        self._timeout = plan.saga.timeout
        self._tracks = plan.saga.track_compensation
        self._keeper = keeper
        self._halt = halt
        self._unfinished = set(unfinished)
        self._steps = {step.name: step for step in plan.steps}
        self.clock = clock
        self.status = ""
        """What it waits for, or ""; read by the reporter."""
        self.retried: dict[str, int | None] = {}
        """Id → None while a saga that an operator wants compensated further is on its way here, then
        the ticket with which its end is stored."""
        self.published_anew: set[str] = set()
        """Steps whose sinks undo after a crash what was not settled: they are run again then."""

    # --- before the first step ----------------------------------------------------------------

    def take_up(self, executions: Executions) -> None:
        """Find the sagas that these executions had begun before a crash, or a wait."""
        if self._halt.error:
            return
        if not executions.resumed:
            self._one_of_each_lane(executions)
        wanted = {parked.place.id: index for index, parked in executions.resumed.items()}
        if self._unfinished and not wanted:
            wanted = self._coming_again(executions)
        if not wanted:
            return
        found: list[Saga] = []

        def load() -> None:
            found[:] = self._keeper.load(executions.pipeline, list(wanted))

        if self._waiting_for_store(load):
            for saga in found:
                self._take_up(executions, wanted[saga.id], saga)

    def _one_of_each_lane(self, executions: Executions) -> None:
        """Let the first of each lane go on, the others behind it: a saga ends before the next begins.

        So none of a key sees what an earlier one has done and will take back.
        """
        lanes = executions.lanes
        if lanes is None:
            return
        seen: set[object] = set()
        for index in executions.going(0):
            lane = lanes[index]
            if lane is None:
                continue
            if lane in seen:
                executions.waits[index] = Wait(0)
                executions.end(index, Ended("parked"))
            seen.add(lane)

    def _coming_again(self, executions: Executions) -> dict[str, int]:
        """Return id → index of the executions that had a saga when the worker started."""
        found = {}
        for index in range(executions.events.size):
            ended = executions.ended.get(index)
            if ended is None or ended.outcome == "failed":
                saga = executions.execution_id(index)
                if saga in self._unfinished:
                    found[saga] = index
        return found

    def _take_up(self, executions: Executions, index: int, saga: Saga) -> None:
        if saga.status in {"compensating", "retrying"}:
            executions.jumps.pop(index, None)
            executions.ended[index] = Ended("failed", saga.step, error_of(saga.error))
        elif saga.status != "running":
            return  # of an earlier time: the event was sent once more, and begins anew
        executions.sagas[index] = saga
        executions.starts.setdefault(index, saga.started_at)
        for name, progress in saga.steps.items():
            self._after_crash(saga, name, progress, resumed=index in executions.resumed)
        if saga.status == "running" and index in executions.resumed and self._is_over(saga):
            step = executions.resumed[index].step
            executions.jumps.pop(index, None)
            executions.end(index, Ended("failed", step, self._overran()))

    def _after_crash(self, saga: Saga, name: str, progress: StepProgress, *, resumed: bool) -> None:
        """Say of a step that was under way whether it may be run again."""
        step = self._steps.get(name)
        if saga.status == "running":
            if not resumed and progress.status == "done" and name in self.published_anew:
                progress.status = "again"
            progress.unsure = progress.unsure or progress.status == "started"
            again = step is not None and may_run_again(step)
            progress.status = after_crash(progress.status, again=again)
        undoing = progress.undoing
        if undoing is not None and undoing.status == "started":
            compensation = step.compensate if step else None
            again = compensation is not None and may_run_again(compensation)
            undoing.status = after_crash(undoing.status, again=again)

    # --- around a step ------------------------------------------------------------------------

    def run(
        self, step: StepPlan, attempt: Attempt, executions: Executions, indexes: Sequence[int]
    ) -> Column:
        """Run a step for those that have not done it yet, and store how far each is."""
        outputs: dict[int, object] = {}
        going: list[int] = []
        for index in indexes:
            saga = self._saga(executions, index)
            progress = saga.steps.get(step.name)
            match turn_of(progress.status if progress else None):
                case "run" if self._is_over(saga):
                    executions.end(index, Ended("failed", step.name, self._overran()))
                case "run":
                    going.append(index)
                case "use":
                    outputs[index] = self._use(executions, index, step, progress)
                case "refuse":
                    executions.failures[index] = _interrupted(step)
        size = len(going) if may_run_again(step) else AT_RISK
        for start in range(0, len(going), size or 1):
            part = going[start : start + size]
            made = self._run(step, attempt, executions, part)
            if self._halt.error:
                break
            outputs.update(zip(part, made or [UNSET] * len(part), strict=True))
        return [outputs.get(index, UNSET) for index in indexes]

    def _run(
        self, step: StepPlan, attempt: Attempt, executions: Executions, part: Sequence[int]
    ) -> Column:
        name, now = step.name, self.clock()
        for index in part:
            progress = executions.sagas[index].steps.setdefault(name, StepProgress("started"))
            progress.status, progress.at = "started", now
        if not self.save([executions.sagas[index] for index in part]):
            return []
        fail_point("saga_before_effect")
        made = attempt(executions, part)
        fail_point("saga_after_effect")
        now = self.clock()
        details = executions.details.get(name)
        ended: list[Saga] = []
        for index, output in zip(part, made or [UNSET] * len(part), strict=True):
            saga = executions.sagas[index]
            progress, error = saga.steps[name], executions.failures.get(index)
            progress.at = now
            if error is None:
                progress.status, progress.output = "done", output
                progress.detail = details[index] if details else None
            else:
                progress.status = "failed"
                progress.unsure = progress.unsure or may_have_acted(step, error)
                if step.on_error == "fail":
                    continue  # what becomes of it is stored with what follows: see `compensate`
            ended.append(saga)
        self.save(ended)
        return made

    def _saga(self, executions: Executions, index: int) -> Saga:
        """Return the saga of an execution, begun now if it has none yet."""
        known: Saga | None = executions.sagas.get(index)
        if known is not None:
            return known
        batch, now = executions.events, self.clock()
        before = executions.resumed.get(index)
        saga = executions.sagas[index] = Saga(
            id=executions.execution_id(index) if before is None else before.place.id,
            pipeline=executions.pipeline,
            source=self._plan.source,
            partition=batch.column("partition")[index] or "",
            lane=None if executions.lanes is None else executions.lanes[index],
            event_id=batch.column("id")[index] or "",
            event_type=batch.column("type")[index] or "",
            started_at=now,
            deadline=None if self._timeout is None else now + self._timeout,
            updated_at=now,
            letter=None if before is None else before.letter,
        )
        return saga

    def _use(
        self, executions: Executions, index: int, step: StepPlan, progress: StepProgress | None
    ) -> object:
        assert progress is not None  # noqa: S101 - it is done
        if progress.detail:
            column = executions.details.get(step.name)
            if column is None:
                column = executions.details[step.name] = [None] * executions.events.size
            column[index] = progress.detail
        return progress.output

    def _is_over(self, saga: Saga) -> bool:
        return saga.deadline is not None and self.clock() >= saga.deadline

    def _overran(self) -> PermanentError:
        return PermanentError(
            f"the saga was not done within {self._timeout:g}s.",
            code="saga_timeout",
            hint="What it had done is compensated. Raise saga.timeout if its steps need longer.",
        )

    # --- at the end ---------------------------------------------------------------------------

    def settle(self, executions: Executions, settlement: Settlement, ticket: int) -> None:
        """Add to the settlement what has become of the sagas that have ended.

        It is durable once `ticket` is stored.
        """
        for index, saga in executions.sagas.items():
            ended = executions.ended.get(index)
            outcome = "done" if ended is None else ended.outcome
            if outcome in {"failed", "undone"}:
                saga.body = None
                if saga.status == "compensation_failed":
                    (saga.body,) = encode_each(executions, [index])
                settlement.sagas.append(saga)
            elif outcome != "parked":
                settlement.sagas_completed.append(saga.id)
            if outcome != "parked":
                self._unfinished.discard(saga.id)
            if outcome == "undone":
                self.retried[saga.id] = ticket

    @property
    def in_history(self) -> bool:
        """Whether compensations are recorded in the executions' history."""
        return self._tracks

    # --- the store ----------------------------------------------------------------------------

    def save(self, sagas: Sequence[Saga]) -> bool:
        """Store progress; waits for a state store that is away. False when the worker must stop."""
        if not sagas:
            return not self._halt.error
        now = self.clock()
        for saga in sagas:
            saga.updated_at = now
        return self._waiting_for_store(lambda: self._keeper.save(sagas))

    def _waiting_for_store(self, call: Callable[[], None]) -> bool:
        def done() -> bool:
            call()
            return True

        return bool(
            until_it_answers(
                done, self._halt, waits=self._tell, stopped=_stopped_waiting, patience=PATIENCE
            )
        )

    def _tell(self, message: str) -> None:
        self.status = f"state store: {message}" if message else ""


def _interrupted(step: StepPlan) -> PermanentError:
    return PermanentError(
        f"the worker died while step {step.name} ran, and whether it took effect is not known.",
        code="step_interrupted",
        hint="It is not run a second time. Give it an idempotency_key, and it will be.",
        step=step.name,
    )


def _stopped_waiting(error: PenstockError) -> FatalError:
    return FatalError(
        f"stopped while a saga waited for the state store: {error.message}",
        code="state_unavailable",
        hint="Its event comes again at the next start, and the saga goes on where it was.",
        unreachable=True,
    )
