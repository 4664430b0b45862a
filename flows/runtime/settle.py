"""Settle: an executions' outcome, gathered per batch, on its way into one transaction."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING, Literal, Protocol

from connectors.batch import Column
from connectors.contracts import Sink
from connectors.errors import FatalError, PenstockError
from connectors.failpoints import fail_point
from flows.runtime.answering import answering_steps, answers_of
from flows.runtime.halt import Halt
from flows.runtime.measures import Histogram
from flows.runtime.parking import Parking, parked_record
from flows.runtime.redacting import redacted
from flows.runtime.sagas import Sagas
from flows.runtime.signals import CANCELLED
from flows.runtime.tenants import tenants
from flows.runtime.time_limit import ended_untried
from flows.state.bodies import encode_each
from flows.state.copies import letter_copy
from flows.state.history import chunk_pieces
from flows.state.letters import NO_ERROR, dead_letter
from flows.state.records import (
    Counts,
    DeadLetter,
    HistoryChunk,
    LetterCopy,
    Replayed,
    ReplayLink,
    Settlement,
)
from flows.state.tries import NONE, with_try
from transforms.executions import Executions
from transforms.expressions import compile_jq

if TYPE_CHECKING:
    from flows.plan import FlowPlan, PipelinePlan, SourcePlan


@dataclass(slots=True)
class Tally:
    """What one pipeline did since its worker started; read by the reporter."""

    received: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    failures: deque[DeadLetter] = field(default_factory=lambda: deque(maxlen=5))
    """The last ones, until the reporter takes them."""
    active: int = 0
    """Executions of the batch that is in its steps now."""
    recorded: int = 0
    """Executions put into the history."""
    durations: Histogram = field(default_factory=Histogram)


SettleKeys = Callable[[Executions, Settlement], None]
"""Adds to a settlement what becomes of the idempotency keys that its executions hold."""


class Outcomes(Protocol):
    """Where outcomes go: the committer, which makes them durable."""

    def settle(self, settlement: Settlement) -> None:
        """Take one batch's outcome in one pipeline; see `Committer.settle`."""

    @property
    def ticket(self) -> int:
        """The number of the batch in flight; see `Committer.ticket`."""

    def flush(self) -> None:
        """Store all that was taken; see `Committer.flush`."""


class Settle:
    """One pipeline's last operator."""

    def __init__(
        self,
        flow: FlowPlan,
        source: SourcePlan,
        plan: PipelinePlan,
        *,
        sinks: Mapping[str, Sink],
        committer: Outcomes,
        halt: Halt,
        parking: Parking,
        sagas: Sagas | None = None,
        keys: Sequence[SettleKeys] = (),
    ) -> None:
        self.tally = Tally()
        self._flow = flow
        self._source = source.name
        self._source_type = source.type
        self._plan = plan
        self._sinks = sinks
        self._committer = committer
        self._halt = halt
        self.parking = parking
        self._sagas = sagas
        self._keys = keys
        self._places = plan.places
        self.copies_letters = plan.dead_letter.sink is not None
        """Whether a sink gets copies of the pipeline's dead letters."""
        self._answering = answering_steps(source, plan)
        self._types = {step.place_in_pipeline: step.type for step in plan.everything_run()}
        self._tenant = compile_jq(plan.tenant) if plan.tenant else None
        self._record = flow.history.record
        self._redact = flow.history.redact
        self._fraction = flow.history.fraction
        self._random = Random()  # noqa: S311 - which batches are sampled is no secret

    def __call__(self, executions: Executions) -> None:
        """Hand the batch's outcome to the committer; nothing of it if the worker must stop."""
        fail_point("after_effects_before_settle")
        if self._halt.error:
            return
        letters: list[DeadLetter] = []
        copied: list[tuple[int, LetterCopy]] = []
        failed = skipped = untriggered = parked = undone = repeated = 0
        now = time.time()
        for index, ended in executions.ended.items():
            if ended.error is not None:
                ended.error.forget_frames()
            if ended.outcome == "failed":
                failed += 1
                if self._leaves_no_letter(executions, index, ended.error):
                    continue
                letters.append(self._letter(executions, index, now))
                if self.copies_letters and letters[-1].replay is None:
                    copied.append((index, self._copy(executions, index, letters[-1])))
            elif ended.outcome == "skipped":
                skipped += 1
            elif ended.outcome == "parked":
                parked += 1
            elif ended.outcome == "undone":
                undone += 1
            elif ended.outcome == "repeated":
                repeated += 1
            else:
                untriggered += 1
        if letters and not self._plan.dead_letter.enabled:
            new = [
                letter
                for letter in letters
                if letter.replay is None and letter.error_code != CANCELLED
            ]
            if new:
                self._halt.fail(stopped_at(new[0]))
                return
        unrecorded = untriggered + parked + undone + repeated
        done = executions.events.size - failed - skipped - unrecorded
        skipped += repeated
        settlement = Settlement(
            pipeline=self._plan.name,
            counts=Counts(done=done, failed=failed, skipped=skipped),
            dead_letters=letters,
            sink_states=self._sink_states(),
            copies=[copy for _, copy in sorted(copied, key=itemgetter(0))],
        )
        self._record_in(settlement, executions, skipped - repeated, unrecorded, now=now)
        if executions.signals:
            settlement.signals.extend(executions.signals)
        if executions.replays:
            settlement.replayed.extend(_replayed(executions, letters))
        if parked or executions.resumed:
            self._park(executions, settlement, now)
        if self._answering is not None:
            settlement.answers.extend(answers_of(executions, self._source, self._answering))
        if self._sagas is not None:
            self._sagas.settle(executions, settlement, self._committer.ticket)
        for settle_keys in self._keys:
            settle_keys(executions, settlement)
        self._committer.settle(settlement)
        tally = self.tally
        tally.received += executions.events.size - untriggered - len(executions.resumed)
        tally.done += done
        tally.failed += failed
        tally.skipped += skipped
        tally.failures.extend(letters)
        tally.active = 0
        if settlement.history is not None:
            tally.recorded += settlement.history.count
        self._measure(executions, done + failed + skipped, now)

    def _measure(self, executions: Executions, count: int, now: float) -> None:
        """Take the time of what has ended: of the batch, or since an execution was parked."""
        durations = self.tally.durations
        for index, before in executions.resumed.items():
            if index not in executions.waits:
                durations.observe(max(0.0, now - before.parked_at))
                count -= 1
        if count > 0:
            durations.observe(max(0.0, now - executions.started), count)

    def _park(self, executions: Executions, settlement: Settlement, now: float) -> None:
        """Tell the store and the parking what waits now, and what no longer does."""
        parking, ticket = self.parking, self._committer.ticket
        for index, before in executions.resumed.items():
            if index not in executions.waits:
                settlement.resumed.append(before.place.id)
                parking.ended(before.place.id)
        waiting = sorted(executions.waits)
        if not waiting:
            return
        few, ids = executions.few(waiting), executions.ids_of(waiting)
        bodies = encode_each(executions, waiting, with_arrivals=self.copies_letters)
        for place, index in enumerate(waiting):
            parked = parked_record(
                executions,
                index,
                ids[place],
                events=few,
                place=place,
                source=self._source,
                steps=self._places,
                now=now,
                turn=parking.next_turn,
                redact=self._flow.redact,
                body=bodies[place],
            )
            settlement.parked.append(parked)
            parking.park(parked.place, ticket)

    def durably(self, executions: Executions) -> None:
        """Settle and wait until it is stored: for a batch that another process will checkpoint.

        An error that stops the worker is raised: Bytewax then ends this process in mid-epoch, no process can checkpoint
        that epoch, and the supervisor starts the whole cluster again.
        """
        self(executions)
        if not self._halt.error:
            self._committer.flush()
        error = self._halt.error
        if error is not None:
            raise error
        self.parking.all_stored()

    def _leaves_no_letter(
        self, executions: Executions, index: int, error: PenstockError | None
    ) -> bool:
        """Whether an operator has ended it, and the history has all of it: it needs nobody any more."""
        if error is None or error.code != CANCELLED or self._record not in {"full", "errors"}:
            return False
        return index not in executions.replays

    def _letter(self, executions: Executions, index: int, now: float) -> DeadLetter:
        (tenant,) = tenants(self._tenant, executions, [index])
        letter = dead_letter(
            executions,
            index,
            flow=self._flow.name,
            flow_version=self._flow.version_hash,
            source_module=self._source,
            tenant=tenant,
            now=now,
            redact=self._flow.redact,
        )
        link = executions.replays.get(index)
        if link is not None:
            letter = replace(letter, id=link.letter, replay=link.replay)
        saga = executions.sagas.get(index)
        before = executions.resumed.get(index)
        letter = replace(
            letter,
            tries=with_try(
                NONE if before is None else before.tries,
                at=now if saga is None else saga.failed_at or now,
                step=letter.step,
                code=letter.error_code,
                message=letter.error_message,
            ),
        )
        if saga is not None:
            return replace(letter, attempts=saga.attempts, first_failed_at=saga.failed_at or now)
        if before is None:
            return letter
        again = before.step == letter.step
        ended = executions.ended[index]
        tried = 0 if ended_untried(ended.error) else 1
        return replace(
            letter,
            attempts=before.place.attempts + tried if again else 1,
            first_failed_at=before.parked_at if before.place.attempts else now,
        )

    def _copy(self, executions: Executions, index: int, letter: DeadLetter) -> LetterCopy:
        """Return the copy for the sink. Of a replay there is none: the sink has had its event."""
        return letter_copy(
            letter,
            executions.events.column("arrival")[index],
            acting=self._types.get(letter.step or "", self._source_type),
            error=executions.ended[index].error,
        )

    def _record_in(
        self,
        settlement: Settlement,
        executions: Executions,
        skipped: int,
        untriggered: int,
        *,
        now: float,
    ) -> None:
        """Put what history records of the batch into its settlement."""
        failed = settlement.counts.failed
        record = self._record
        count = executions.events.size - untriggered
        if record == "errors":
            count = failed
        elif record == "off" or (record == "sampled" and self._random.random() >= self._fraction):
            return
        if not count:
            return
        first, last = _time_range(executions.events.column("timestamp"), now)
        only_failed = record == "errors"
        types = executions.events.columns.get("type")
        masked: Collection[int] = ()
        if self._redact:
            executions, masked = redacted(executions, self._redact)
        settlement.history_pieces = chunk_pieces(
            executions,
            meta=executions.base_meta,
            redacted=masked,
            only_failed=only_failed,
            with_undone=self._sagas is not None and self._sagas.in_history,
        )
        settlement.history = HistoryChunk(
            flow=self._flow.name,
            flow_version=self._flow.version_hash,
            pipeline=self._plan.name,
            source=self._source,
            first_time=first,
            last_time=last,
            recorded_at=now,
            count=count,
            failed=failed,
            body=b"",
            skipped=0 if only_failed else skipped,
            errors=_lines(_codes(executions)) if failed else "",
            types=_lines(types),
        )

    def _sink_states(self) -> dict[str, Mapping[str, str]]:
        states: dict[str, Mapping[str, str]] = {}
        for name, sink in self._sinks.items():
            state = sink.settled_state()
            if state is not None:
                states[name] = state
        return states


def _replayed(executions: Executions, letters: Sequence[DeadLetter]) -> Iterator[Replayed]:
    """Yield what came of those that replay dead letters; nothing of one that is parked again."""
    failures = {letter.id: letter for letter in letters}
    link: ReplayLink
    for index, link in executions.replays.items():
        ended = executions.ended.get(index)
        if ended is not None and ended.outcome == "parked" and index in executions.resumed:
            continue
        outcome = "done" if ended is None else ended.outcome
        if outcome == "undone":
            continue  # it had failed before, and told so then
        failure = failures.get(link.letter) if outcome == "failed" else None
        untriggered = outcome == "not_triggered"
        yield Replayed(
            link.replay,
            link.letter,
            _OUTCOMES[outcome],
            link.taken_by,
            executions.execution_id(index),
            None if failure is None else failure.step,
            failure.error_code if failure else "not_triggered" if untriggered else "",
            failure.error_message if failure else _NO_LONGER if untriggered else "",
        )


_OUTCOMES: Mapping[str, Literal["running", "done", "failed", "skipped", "returned"]] = {
    "done": "done",
    "repeated": "done",
    "failed": "failed",
    "skipped": "skipped",
    "parked": "running",
    "not_triggered": "returned",
}

_NO_LONGER = "the pipeline's trigger no longer takes this event."


_LONGEST = 500
"""Characters of a chunk's errors or types that are worth being stored beside it."""


def _codes(executions: Executions) -> Column:
    return [
        NO_ERROR.code if ended.error is None else ended.error.code
        for ended in executions.ended.values()
        if ended.outcome == "failed"
    ]


def _lines(values: Column | None) -> str | None:
    """Return what is in a column, a line each; None where that is not known, or too much."""
    if values is None:
        return None
    try:
        text = "\n".join(sorted(set(values)))
    except TypeError:  # one that could not be read has none
        return None
    return text if len(text) <= _LONGEST else None


def _time_range(times: Column, now: float) -> tuple[float, float]:
    """Return the earliest and latest time; events need not come in the order of their times."""
    try:
        return min(times), max(times)
    except TypeError:  # some have none
        known = [at for at in times if at is not None] or [now]
        return min(known), max(known)


def stopped_at(letter: DeadLetter) -> FatalError:
    """Return the error with which a worker stops at what would be a dead letter, and may not be one."""
    return FatalError(
        f"event {letter.event_id} failed in pipeline {letter.pipeline}"
        f"{f' at step {letter.step}' if letter.step else ''}: {letter.error_message}",
        code="dead_letter_disabled",
        hint="dead_letter.enabled is false, so the source stops here and nothing is dropped.",
        event=letter.event_id,
        pipeline=letter.pipeline,
        step=letter.step,
    )
