"""`idempotent: true`: a step acts once per key, and what comes with the key again gets its output.

Around each call of the step stand two transactions: the keys are reserved before, the outputs stored
after. So a crash repeats what has acted and is not stored yet, and nothing else; to an HTTP service
that is said by the same `Idempotency-Key` again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectors.batch import Column
from connectors.errors import HeldError, PermanentError, RetryableError
from connectors.failpoints import fail_point
from flows.plan import compensation_name
from flows.runtime.idempotency import HELD_ON, in_flight, pause
from flows.runtime.key_keeper import KeyKeeper
from flows.runtime.stepping import Around, Attempt
from flows.state.idempotency import digest_of
from flows.state.jsontext import json_text
from flows.state.records import Claim, KeyOutcome, Settlement
from flows.state.sagas import Saga
from transforms.executions import UNSET, Executions
from transforms.steps.idempotent import StepKey

if TYPE_CHECKING:
    from flows.plan import StepPlan


class StepKeys:
    """The idempotent steps of one pipeline in one worker."""

    def __init__(self, pipeline: str, keeper: KeyKeeper) -> None:
        self._pipeline = pipeline
        self._keeper = keeper
        self._steps: dict[str, _Once] = {}

    def around(self, step: StepPlan) -> Around | None:
        """Return what lets a step act once per key; None for one that is not idempotent."""
        if not step.is_idempotent:
            return None
        once = self._steps[step.place_in_pipeline] = _Once(step, self._pipeline, self._keeper)
        return once.run

    @property
    def status(self) -> str:
        """What they wait for, or ""; read by the reporter."""
        return self._keeper.status

    def settle(self, executions: Executions, settlement: Settlement) -> None:
        """Add to the settlement what becomes of keys of steps that failed, or were compensated.

        Those of executions that wait are held on; those of others are free again.
        """
        for index, saga in executions.sagas.items():
            ended = executions.ended.get(index)
            if ended is not None and ended.outcome in {"failed", "undone"}:
                settlement.keys += self._taken_back(executions, index, saga)
        undecided = list(executions.undecided.values())
        if not undecided:
            return
        waiting = {
            executions.execution_id(index): wait.seconds for index, wait in executions.waits.items()
        }
        for claim in undecided:
            seconds = waiting.get(claim.holder)
            outcome = (
                KeyOutcome(claim, "released")
                if seconds is None
                else KeyOutcome(claim, "held", seconds + HELD_ON)
            )
            settlement.keys.append(outcome)
        self._keeper.let_go(undecided)

    def _taken_back(self, executions: Executions, index: int, saga: Saga) -> Iterator[KeyOutcome]:
        """Yield the keys of steps that were compensated, and of their compensations.

        A replay has to run both again: the saga itself knows what of it is done.
        """
        for name, progress in saga.steps.items():
            if progress.undoing is None or progress.undoing.status != "done":
                continue
            for place in (name, compensation_name(name)):
                claim = None
                if place in self._steps:
                    claim = self._steps[place].claim(executions, index)
                if claim is not None:
                    yield KeyOutcome(claim, "forgotten")


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a step, for a batch."""

    step: StepPlan
    attempt: Attempt
    executions: Executions
    outputs: dict[int, Any] = field(default_factory=dict)
    busy: set[object] = field(default_factory=set)
    """Lanes of which one waits, so that what comes behind it waits too."""


class _Once:
    """One idempotent step of one pipeline in one worker."""

    def __init__(self, step: StepPlan, pipeline: str, keeper: KeyKeeper) -> None:
        place = step.place_in_pipeline
        self._place = f"{pipeline}/{place}"
        # A step module's key is one for all that use it.
        self._scope = ("module", step.use) if step.use else ("step", pipeline, place)
        self._key = StepKey(step.settings, pipeline, place)
        self._ttl: float = step.settings.idempotency_ttl
        self._keeper = keeper

    def run(
        self, step: StepPlan, attempt: Attempt, executions: Executions, indexes: Sequence[int]
    ) -> Column:
        """Run the step for those whose keys are new; the others get what is stored, or wait."""
        call = _Call(step, attempt, executions)
        for turn in _turns(executions, self._claims(executions, indexes)):
            if not self._take(turn, call):
                break
        return [call.outputs.get(index, UNSET) for index in indexes]

    def claim(self, executions: Executions, index: int) -> Claim | None:
        """Return the claim of one execution; None where it has no key."""
        keys, errors = self._key.column(executions, [index])
        if errors or not keys[0]:
            return None
        return self._claim(keys[0], executions, index)

    def _claim(self, key: str, executions: Executions, index: int) -> Claim:
        digest = digest_of(*self._scope, key)
        return Claim(digest, self._place, executions.execution_id(index), key=key)

    def _claims(self, executions: Executions, indexes: Sequence[int]) -> dict[int, Claim]:
        keys, errors = self._key.column(executions, indexes)
        claims: dict[int, Claim] = {}
        for index, key in zip(indexes, keys, strict=True):
            if index in errors:
                executions.failures[index] = errors[index]
            elif not key:
                executions.failures[index] = _empty(self._place)
            else:
                claims[index] = self._claim(key, executions, index)
        return claims

    def _take(self, turn: dict[int, Claim], call: _Call) -> bool:
        """Run the step for some, all with keys of their own; False when the worker must stop."""
        executions, lanes, busy = call.executions, call.executions.lanes, call.busy
        wanted = {}
        for index, claim in turn.items():
            if lanes is not None and lanes[index] in busy:
                executions.failures[index] = _behind(self._place)
            else:
                wanted[index] = claim
        found = self._keeper.reserve(list(wanted.values()))
        if found is None:
            return False
        going: dict[int, Claim] = {}
        unused: list[Claim] = []
        for (index, claim), held in zip(wanted.items(), found, strict=True):
            lane = None if lanes is None else lanes[index]
            if lane is not None and lane in busy:
                executions.failures[index] = _behind(self._place)
                if held is None:
                    unused.append(claim)
            elif held is None:
                going[index] = claim
            elif held.done:
                call.outputs[index] = self._stored(held.result, executions, index, call.step.name)
            else:
                seconds = pause(executions, index)
                what = f"the key of step {self._place}"
                executions.failures[index] = in_flight(what, held.holder, seconds)
                if lane is not None:
                    busy.add(lane)
        outcomes = [KeyOutcome(claim, "released") for claim in unused]
        if going:
            outcomes += self._act(going, call)
        return self._keeper.settle(outcomes)

    def _act(self, going: dict[int, Claim], call: _Call) -> list[KeyOutcome]:
        """Run the step; return what becomes of the keys."""
        executions, step = call.executions, call.step
        made = call.attempt(executions, list(going))
        fail_point("after_idempotent_effect")
        details = executions.details.get(step.name)
        outcomes = []
        for (index, claim), output in zip(going.items(), made or [UNSET] * len(going), strict=True):
            call.outputs[index] = output
            error = executions.failures.get(index)
            executions.undecided.pop(claim.digest, None)
            if error is None:
                detail = details[index] if details else None
                result = _text_of(output, detail)
                outcomes.append(KeyOutcome(claim, "done", self._ttl, result))
            elif isinstance(error, RetryableError) and not isinstance(error, HeldError):
                executions.undecided[claim.digest] = claim
            else:
                outcomes.append(KeyOutcome(claim, "released"))
        return outcomes

    def _stored(self, result: str | None, executions: Executions, index: int, name: str) -> Any:
        """Return the output of the first time, and put beside it what was beside it then."""
        stored = json.loads(result or "{}")
        detail = stored.get("detail")
        if detail:
            column = executions.details.get(name)
            if column is None:
                column = executions.details[name] = [None] * executions.events.size
            column[index] = detail
        return stored.get("output", UNSET)


def _turns(executions: Executions, claims: dict[int, Claim]) -> list[dict[int, Claim]]:
    """Return the claims in turns, each with no key twice: the second finds what the first has done.

    What comes behind such a one in its lane comes in its turn too, and not before.
    """
    lanes = executions.lanes
    turns: list[dict[int, Claim]] = []
    next_of_key: dict[bytes, int] = {}
    of_lane: dict[object, int] = {}
    for index, claim in claims.items():
        lane = None if lanes is None else lanes[index]
        turn = next_of_key.get(claim.digest, 0)
        if lane is not None:
            turn = of_lane[lane] = max(turn, of_lane.get(lane, 0))
        next_of_key[claim.digest] = turn + 1
        if turn == len(turns):
            turns.append({})
        turns[turn][index] = claim
    return turns


def _text_of(output: Any, detail: Any) -> str:
    stored = {} if output is UNSET else {"output": output}
    return json_text({**stored, "detail": detail} if detail else stored).decode()


def _behind(place: str) -> HeldError:
    return HeldError(
        f"it waits behind an earlier event of its key at step {place}.",
        code="idempotency_key_in_flight",
        hint="It goes on by itself when that one has ended.",
        effect="none",
    )


def _empty(place: str) -> PermanentError:
    return PermanentError(
        f"the idempotency key of step {place} is empty.",
        code="idempotency_key",
        hint="Mend the event or idempotency_key, then replay the event.",
    )
