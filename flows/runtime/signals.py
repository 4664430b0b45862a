"""Operators' signals on the dataflow's thread: pause, resume, retry, skip, cancel.

    parked      between two epochs, when nothing is in flight: held or let go on at once; ended by
                resuming it out of its turn, so that what its saga has done is compensated; a step is
                skipped or tried when its turn comes, for order is kept
    running     at the next step: set aside, sent past the step, or ended there

A signal stays `waiting` in the state store until the transaction that settles its effect, so a crash
has it obeyed again and never forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from connectors.errors import PermanentError
from flows.runtime.committer import Committer
from flows.runtime.parking import Parking
from flows.state.records import Counts, Parked, Settlement, SignalOutcome
from transforms.executions import Ended, Executions, Wait

if TYPE_CHECKING:  # `penstock test` runs steps without a state store, and imports none
    from flows.plan import PipelinePlan, StepPlan
    from flows.runtime.signal_inbox import SignalInbox
    from flows.state.signals import Signal

CANCELLED: Final = "execution_cancelled"
"""The error code of an execution that an operator has ended."""

SKIPPED: Final = "step_skipped"
"""Of a step that one has skipped."""

_OUT_OF_REACH = "its pipeline is spread over several processes by partition_by: ask while the flow runs with one."

_MILLISECONDS = (1 << 48) - 1
"""What an execution's id begins with."""


class Signalling:
    """The signals to one worker's executions."""

    def __init__(
        self,
        inbox: SignalInbox,
        parkings: Mapping[str, Parking],
        committer: Committer,
        owns: Callable[[str], bool],
        *,
        spread: Collection[str] = (),
    ) -> None:
        """`owns` says whose source partitions are this worker's.

        `spread`: pipelines of which executions wait in any process of a cluster, out of reach.
        """
        self._spread = spread
        self._inbox = inbox
        self._parkings = parkings
        self._committer = committer
        self._owns = owns
        self._running: list[Signal] = []
        self._directives: dict[str, list[Signal]] = {}
        self._pulled: dict[str, list[str]] = {}
        self._gone: list[tuple[str, str]] = []

    # --- between two epochs -------------------------------------------------------------------

    def have_come(self) -> bool:
        """Whether there is anything to be obeyed between two epochs."""
        if self._inbox.come or self._gone:
            return True
        return bool(self._running) and any(self._home(each) for each in self._running)

    def obey(self) -> None:
        """Obey what has come for parked executions, in a transaction of its own.

        No other outcome may be open then.
        """
        outcomes: dict[str, list[SignalOutcome]] = {}
        for execution, pipeline in self._gone:
            for signal in self._directives.pop(execution, []):
                ended = _outcome(signal, pipeline, "refused", "it is no longer there.")
                outcomes.setdefault(pipeline, []).append(ended)
        self._gone = []
        waiting, self._running = self._running, []
        for signal in (*waiting, *self._inbox.take()):
            made = self._obey(signal)
            if made is not None:
                outcomes.setdefault(made.pipeline, []).append(made)
        for pipeline, made_of in outcomes.items():
            self._committer.settle(Settlement(pipeline, Counts(), signals=made_of))
        if outcomes:
            self._committer.checkpoint({})

    def _obey(self, signal: Signal) -> SignalOutcome | None:
        """Return the outcome of a signal; None where that is still to come."""
        name = self._home(signal)
        if name is None:
            if signal.partition is None:
                if signal.expires_at is None or signal.expires_at > time.time():
                    self._running.append(signal)
                return None
            if not self._owns(signal.partition):
                return None  # another worker's
            name = signal.pipeline or ""
            why = _OUT_OF_REACH if name in self._spread else "it has ended."
            return _outcome(signal, name, "refused", why)
        parking, now, ticket = self._parkings[name], time.time(), self._committer.ticket
        execution = signal.execution
        match signal.action:
            case "pause":
                if parking.is_paused(execution):
                    return _outcome(signal, name, "refused", "it is paused already.")
                parking.pause(execution, now, ticket)
                return _outcome(signal, name, "applied", "where it waits", change="paused", at=now)
            case "resume":
                if not parking.is_paused(execution):
                    return _outcome(signal, name, "refused", "it is not paused.")
                parking.let_go_on(execution, ticket)
                return _outcome(signal, name, "applied", "", change="resumed", at=now)
            case "retry" | "skip":
                parking.let_go_on(execution, 0, due_at=now)
            case "skip_execution" | "cancel":
                self._pulled.setdefault(name, []).append(execution)
        self._directives.setdefault(execution, []).append(signal)
        return None

    def _home(self, signal: Signal) -> str | None:
        """Return the pipeline in which the execution waits here."""
        if signal.pipeline is not None:
            known = self._parkings.get(signal.pipeline)
            return signal.pipeline if known is not None and known.has(signal.execution) else None
        for name, parking in self._parkings.items():
            if parking.has(signal.execution):
                return name
        return None

    def unfinished(self) -> bool:
        """Whether anything is to be done that need not wait for another execution's end."""
        if self._inbox.come or self._pulled or self._gone:
            return True
        return any(
            parking.has(each) and not parking.is_paused(each) and parking.behind(each) is None
            for each in self._directives
            for parking in self._parkings.values()
        )

    # --- parked executions on their way back --------------------------------------------------

    def pulled(self, stored: int) -> tuple[str, list[str]] | None:
        """Return parked executions of one pipeline that are to be ended out of their turn."""
        for name, wanted in list(self._pulled.items()):
            parking = self._parkings[name]
            ids = [each for each in dict.fromkeys(wanted) if parking.has(each)]
            ready = [each for each in ids if parking.pull(each, stored)]
            left = [each for each in ids if each not in ready]
            if left:
                self._pulled[name] = left
            else:
                del self._pulled[name]
            if ready:
                return name, ready
        return None

    def put_back(self, pipeline: str, ids: Sequence[str]) -> None:
        """Let those be ended later that could not be read."""
        again = [
            each
            for each in ids
            if any(s.action in {"cancel", "skip_execution"} for s in self._directives.get(each, ()))
        ]
        if again:
            self._pulled.setdefault(pipeline, []).extend(again)

    def gone(self, pipeline: str, execution: str) -> None:
        """Tell that a parked execution is no longer in the store."""
        if execution in self._directives:
            self._gone.append((execution, pipeline))

    def apply(self, executions: Executions, pipeline: PipelinePlan) -> None:
        """Do to executions that have just been resumed what was asked of them."""
        if not self._directives:
            return
        parked: Parked
        for index, parked in executions.resumed.items():
            for signal in self._directives.pop(parked.place.id, ()):
                executions.signals.append(_applied(signal, executions, index, parked, pipeline))

    # --- running executions -------------------------------------------------------------------

    @property
    def asked(self) -> bool:
        """Whether any signal may be for an execution that runs."""
        return bool(self._inbox.come or self._running)

    def wanted(self, pipeline: str) -> dict[str, list[Signal]]:
        """Return execution → signals, of those that may be for what runs in a pipeline."""
        found: dict[str, list[Signal]] = {}
        for signal in (*self._running, *self._inbox.come):
            if signal.pipeline in {None, pipeline}:
                found.setdefault(signal.execution, []).append(signal)
        return found

    def obeyed(self, signal: Signal) -> None:
        """Forget a signal that a running execution has obeyed."""
        self._running = [each for each in self._running if each is not signal]
        self._inbox.obeyed(signal)


class Boundary:
    """What signals do to executions of one pipeline as they come to a step."""

    def __init__(
        self,
        signalling: Signalling,
        places: Sequence[str],
        keep_lanes: Callable[[Executions], None],
    ) -> None:
        """`places`: the pipeline's steps by number; `keep_lanes` says what order is kept by."""
        self._signalling = signalling
        self._places = places
        self._keep_lanes = keep_lanes

    @property
    def asked(self) -> bool:
        """Whether any signal may be for one that runs."""
        return self._signalling.asked

    def obey(self, executions: Executions, step: StepPlan) -> int:
        """Obey signals to executions that have come to `step`; return how many have failed by it."""
        wanted = self._signalling.wanted(executions.pipeline)
        failed = 0
        for index, execution in self._meant(executions, step.number, wanted):
            for signal in wanted[execution]:
                if index in executions.ended or executions.jumps.get(index, 0) > step.number:
                    break  # it has done what was asked first: the others find it as it is then
                done = self._obey(executions, index, step, signal)
                executions.signals.append(done)
                self._signalling.obeyed(signal)
            ended = executions.ended.get(index)
            failed += ended is not None and ended.outcome == "failed"
        return failed

    def _meant(
        self, executions: Executions, number: int, wanted: Mapping[str, object]
    ) -> list[tuple[int, str]]:
        """Return (index, id) of those that signals are for: an id begins with its event's time."""
        times = {int(each.replace("-", "")[:12], 16) for each in wanted}
        column = executions.events.column("timestamp")
        found: list[tuple[int, str]] = []
        for index in executions.going(number):
            at = max(0, int((column[index] or 0.0) * 1000)) & _MILLISECONDS
            if at in times:
                before = executions.resumed.get(index)
                execution = executions.execution_id(index) if before is None else before.place.id
                if execution in wanted:
                    found.append((index, execution))
        return found

    def _obey(
        self, executions: Executions, index: int, step: StepPlan, signal: Signal
    ) -> SignalOutcome:
        name, at = executions.pipeline, f"at step {step.name}"
        match signal.action:
            case "pause":
                self._set_aside(executions, index, step)
            case "skip":
                _pass_over(executions, index, step.number, step.name, signal)
            case "skip_execution":
                executions.end(index, Ended("skipped", step.name, _error(signal)))
            case "cancel":
                executions.end(index, Ended("failed", step.name, _error(signal)))
            case "resume" | "retry":
                return _outcome(signal, name, "refused", "it does not wait: it runs.")
        return _outcome(signal, name, "applied", at)

    def _set_aside(self, executions: Executions, index: int, step: StepPlan) -> None:
        """Park it, held, and behind it what comes later in its lane."""
        if executions.lanes is None:
            self._keep_lanes(executions)
        before = executions.resumed.get(index)
        again = before is not None and before.step == self._places[step.number]
        attempts = before.place.attempts if before is not None and again else 0
        executions.jumps.pop(index, None)
        executions.waits[index] = Wait(step.number, attempts, paused=True)
        executions.end(index, Ended("parked", step.name))
        lanes = executions.lanes
        if lanes is None or lanes[index] is None:
            return
        for other in range(index + 1, executions.events.size):
            if lanes[other] == lanes[index] and other not in executions.ended:
                onward = executions.jumps.pop(other, step.number)
                executions.waits[other] = Wait(onward)
                executions.end(other, Ended("parked", step.name))


def _applied(
    signal: Signal, executions: Executions, index: int, parked: Parked, pipeline: PipelinePlan
) -> SignalOutcome:
    """Do what was asked of a parked execution that has just been resumed."""
    name, number = pipeline.name, executions.jumps.get(index, 0)
    if index in executions.ended:
        return _outcome(signal, name, "refused", "the flow no longer has its step.")
    if number >= len(pipeline.steps):
        if signal.action == "retry":
            return _outcome(signal, name, "applied", f"at {parked.step}")
        undone = "its saga is being undone already: see `penstock saga`."
        return _outcome(signal, name, "refused", undone)
    step = pipeline.steps[number].name
    match signal.action:
        case "skip":
            _pass_over(executions, index, number, step, signal)
        case "skip_execution":
            executions.jumps.pop(index, None)
            executions.end(index, Ended("skipped", step, _error(signal)))
        case "cancel":
            executions.jumps.pop(index, None)
            executions.end(index, Ended("failed", step, _error(signal)))
    return _outcome(signal, name, "applied", f"at step {step}")


def _pass_over(executions: Executions, index: int, number: int, step: str, signal: Signal) -> None:
    executions.passed_over.setdefault(step, {})[index] = _error(signal)
    executions.jumps[index] = number + 1


def _error(signal: Signal) -> PermanentError:
    """Return what the history says of an execution, or a step, that somebody has ended."""
    by = f" by {signal.requested_by}" if signal.requested_by else ""
    why = f": {signal.reason.rstrip('.')}." if signal.reason else "."
    if signal.action == "cancel":
        return PermanentError(
            f"the execution was cancelled{by}{why}",
            code=CANCELLED,
            hint="`penstock executions replay` runs its event again.",
            signal=signal.number,
        )
    what = "step" if signal.action == "skip" else "execution"
    return PermanentError(
        f"the {what} was skipped{by}{why}",
        code=SKIPPED if signal.action == "skip" else "execution_skipped",
        hint="An operator asked for it.",
        signal=signal.number,
    )


def _outcome(
    signal: Signal,
    pipeline: str,
    status: Literal["applied", "refused"],
    note: str,
    *,
    change: Literal["paused", "resumed"] | None = None,
    at: float | None = None,
) -> SignalOutcome:
    now = time.time() if at is None else at
    return SignalOutcome(
        signal.number, pipeline, signal.execution, status, note, change=change, at=now
    )
