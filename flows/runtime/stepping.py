"""Runs one step over a batch's executions: conditions, outputs, and what a failure means."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from connectors.batch import Column
from connectors.errors import (
    FatalError,
    HeldError,
    PenstockError,
    PermanentError,
    RetryableError,
)
from flows.runtime.backoff import Backoff
from flows.runtime.classifying import Classifier, classifier_of
from flows.runtime.halt import Halt
from flows.runtime.happenings import PipelineHappenings
from flows.runtime.measures import StepMeter
from flows.runtime.retrying import delay_before
from flows.runtime.signals import Boundary
from flows.runtime.time_limit import TimeLimit
from transforms.contracts import Step, Telling
from transforms.executions import UNSET, Ended, Executions, Wait
from transforms.expressions import compile_jq
from transforms.registry import step_type
from transforms.steps.outbox import was_refused

if TYPE_CHECKING:
    from flows.plan import StepPlan

FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
"""Backoff in seconds while a sink is away."""


Attempt = Callable[[Executions, Sequence[int]], Column]

Around = Callable[["StepPlan", Attempt, Executions, Sequence[int]], Column]
"""Stands around a step's attempts: calls the attempt for the executions that are to run it, and
returns an output for each that the step was asked for."""


class StepRunner:
    """One step of one pipeline, as the dataflow's operator or the step around it calls it.

    `inner` are the runners of the steps inside it, which it calls itself: it is their
    `transforms.contracts.InnerStep`.
    """

    def __init__(
        self,
        plan: StepPlan,
        step: Step,
        halt: Halt,
        inner: Sequence[StepRunner] = (),
        *,
        last: bool = False,
        around: Around | None = None,
        once: Around | None = None,
        limit: TimeLimit | None = None,
        redact: Callable[[str], str] = str,
        signals: Boundary | None = None,
        happenings: PipelineHappenings | None = None,
    ) -> None:
        """`last`: no step of the pipeline follows; `around`: what keeps record of its effects.

        `once`: what lets it act once per key; `limit`: the pipeline's `timeout`. `redact` masks the
        flow's secrets in errors. `signals`: what operators ask of executions that come to it.
        `happenings`: what it tells of itself while somebody watches.
        """
        kind = step_type(plan.type)
        assert kind is not None  # noqa: S101 - the plan was checked when it was loaded
        self.plan = plan
        self.step = step
        self.name = plan.name
        self.outputs = [plan.name] if step.has_output else []
        if kind.shares_names:
            self.outputs += dict.fromkeys(name for runner in inner for name in runner.outputs)
        waits = kind.effect or kind.outside
        self.reaches_out: bool = plan.acts or waits or any(runner.reaches_out for runner in inner)
        # A sink belongs to the dataflow's thread, and so may what a user's code holds.
        self.may_be_threaded: bool = (
            plan.type != "step.publish"
            and (waits or any(runner.may_be_threaded for runner in inner))
            and all(runner.may_be_threaded or not runner.reaches_out for runner in inner)
        )
        self.meter = StepMeter()
        self.running = 0
        """Executions that the step is at just now; read by other threads."""
        self._waiting = ""
        self._inner = inner
        self._halt = halt
        self._if = compile_jq(plan.if_) if plan.if_ else None
        self._skip_if = compile_jq(plan.skip_if) if plan.skip_if else None
        # Of a step inside another, passes would overwrite each other.
        self._noted = not plan.within
        self._publishes = plan.type == "step.publish"
        self._last = last
        self._around = around
        self._once = once
        self._limit = limit
        self._redact = redact
        self._signals = signals
        self._happenings = happenings
        self._retry = plan.retry if plan.retry and plan.retry.max_attempts > 1 else None
        self._classifier = classifier_of(plan.retry)
        # What a sink can't take is delivered again until it can, not parked: it keeps the order itself.
        straight = self._publishes and once is None
        self._takes_turns = self._retry is not None and self.reaches_out and not straight
        self._random = Random()  # noqa: S311 - jitter is no secret

    @property
    def status(self) -> str:
        """What it waits for, or ""; read by the reporter."""
        if self._waiting or not isinstance(self.step, Telling):
            return self._waiting or next((each.status for each in self._inner if each.status), "")
        return self.step.status

    def every(self) -> Iterator[StepRunner]:
        """Yield this one, then those of the steps inside it, at any depth."""
        yield self
        for runner in self._inner:
            yield from runner.every()

    def under_way(self) -> Iterator[StepRunner]:
        """Yield the innermost steps that run just now; from any thread."""
        inner = [each for runner in self._inner for each in runner.under_way()]
        if inner:
            yield from inner
        elif self.running:
            yield self

    def __call__(self, executions: Executions) -> bool:
        """Run the step for every execution that has come this far and is not held back by `if`.

        Returns False when the worker must stop.
        """
        if self._halt.error:
            return False
        started = perf_counter()
        skipped = failed = retried = 0
        if self._limit is not None:
            failed = self._limit.end_overdue(executions, self.plan)
        if self._signals is not None and self._signals.asked:
            failed += self._signals.obey(executions, self.plan)
        indexes = executions.going(self.plan.number)
        if self._if is not None or self._skip_if is not None:
            indexes, skipped, refused = self._applicable(executions, indexes)
            failed += refused
        if not indexes:
            self.meter.ran(failed, failed=failed, retried=0, skipped=skipped, seconds=0.0)
            return True
        watched = self._happenings
        if watched is not None and watched.all.on:
            watched.begins(self.plan, executions, indexes)
        if executions.lanes is None or not self._takes_turns:
            outputs = self._run(executions, indexes)
        else:
            indexes, outputs = self._run_in_turns(executions, indexes)
        count = len(indexes) + failed
        if executions.failures and self._publishes:
            redelivered = self._await_sink(executions, indexes)
            count, retried = count + redelivered, retried + redelivered
        if executions.failures:
            parked, gave_up = self._settle_failures(executions)
            retried, failed = retried + parked, failed + gave_up
        if self.step.has_output:
            self._keep(executions, indexes, outputs)
        seconds = perf_counter() - started
        if self._noted:
            executions.took[self.name] = (time() - seconds, seconds)
        if watched is not None and watched.all.on:
            watched.ends(self.plan, executions, indexes, seconds)
        self.meter.ran(count, failed=failed, retried=retried, skipped=skipped, seconds=seconds)
        return not self._halt.error

    def _run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        if self._around is None:
            return self.attempt(executions, indexes)
        return self._around(self.plan, self.attempt, executions, indexes)

    def attempt(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Run it, without a record of it; one that is idempotent for those whose keys are new."""
        if self._once is None:
            return self._try(executions, indexes)
        return self._once(self.plan, self._try, executions, indexes)

    def _try(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Run it. An exception that a step let through is a bug of the step: its events fail."""
        outputs: Column
        self.running = len(indexes)
        try:
            outputs = self.step.run(executions, indexes)
        except Exception as error:  # noqa: BLE001 - settled as dead letters with the stack
            bug = PermanentError(
                f"step {self.plan.name} broke: {type(error).__name__}: {error}.",
                code="internal_error",
                hint="This is a bug in the step; the stack is in the dead letter.",
                stack=traceback.format_exc(limit=-12),
            )
            for index in indexes:
                executions.failures[index] = bug
            outputs = [UNSET] * len(indexes)
        self.running = 0
        if executions.failures:
            self._mask(executions, indexes)
            if self._classifier is not None:
                self._classify(executions, indexes, self._classifier)
        return outputs

    def _classify(
        self, executions: Executions, indexes: Sequence[int], classifier: Classifier
    ) -> None:
        failures = executions.failures
        for index in indexes:
            if index in failures:
                failures[index] = classifier(failures[index], self._attempts(executions, index))

    def _mask(self, executions: Executions, indexes: Sequence[int]) -> None:
        """Mask secrets before anything keeps the errors: a loop's `errors`, a saga, the history."""
        found = [executions.failures[index] for index in indexes if index in executions.failures]
        for error in {id(error): error for error in found}.values():  # events may share one
            error.mask(self._redact)

    def _run_in_turns(
        self, executions: Executions, indexes: Sequence[int]
    ) -> tuple[Sequence[int], Column]:
        """Run it such that no execution overtakes one of its lane that has to be tried again.

        Each turn runs one execution of every lane, so it costs nothing where keys differ. Returns
        the indexes that ran, in order, and their outputs.
        """
        assert executions.lanes is not None  # noqa: S101 - the caller looked
        turns: list[list[int]] = []
        places: dict[object, int] = {}
        for index in indexes:
            lane = executions.lanes[index]
            turn = 0 if lane is None else places.get(lane, 0)
            if lane is not None:
                places[lane] = turn + 1
            if turn == len(turns):
                turns.append([])
            turns[turn].append(index)
        if len(turns) == 1:
            return indexes, self._run(executions, indexes)
        held: set[object] = set()
        ran: dict[int, Any] = {}
        for each in turns:
            going = [k for k in each if executions.lanes[k] not in held] if held else each
            outputs = self._run(executions, going) if going else []
            ran.update(zip(going, outputs or [UNSET] * len(going), strict=True))
            if not executions.failures:
                continue
            for index in going:
                error = executions.failures.get(index)
                if error is not None and self._tries_again(executions, index, error):
                    held.add(executions.lanes[index])
        if held:
            for index in indexes:
                if index not in ran:
                    self._park(executions, index, Wait(self.plan.number))
            indexes = sorted(ran)
        return indexes, list(map(ran.__getitem__, indexes)) if self.step.has_output else []

    def _tries_again(self, executions: Executions, index: int, error: PenstockError) -> bool:
        """Whether a failure of this step is one to try again."""
        if isinstance(error, HeldError):
            return not self.plan.within  # inside a step it is that step which waits
        if self._retry is None or self._publishes or not isinstance(error, RetryableError):
            return False
        return self._attempts(executions, index) < self._retry.max_attempts

    def _attempts(self, executions: Executions, index: int) -> int:
        """Return which try of this step this is, from 1."""
        before = executions.resumed.get(index)
        if before is None or before.step != self.plan.name:
            return 1
        return int(before.place.attempts) + 1

    def _park(self, executions: Executions, index: int, wait: Wait) -> None:
        executions.waits[index] = wait
        executions.end(index, Ended("parked", self.plan.name, wait.error))

    def _hold_back(self, executions: Executions, failed: int) -> None:
        """Park what comes later in the lane of an execution that is to be tried again."""
        lanes = executions.lanes
        if lanes is None or lanes[failed] is None:
            return
        for index in _later(lanes, failed):
            if index in executions.ended or index in executions.failures:
                continue
            onward = executions.jumps.get(index)
            if onward is None:
                if self._last:
                    continue  # it is through
                onward = self.plan.number + 1
            self._park(executions, index, Wait(onward))

    def _keep(self, executions: Executions, indexes: Sequence[int], outputs: Column) -> None:
        size = executions.events.size
        if len(indexes) == size:
            executions.outputs[self.plan.name] = outputs
            return
        # A step of the same name in another branch may have made its part already.
        made = executions.outputs.get(self.plan.name)
        column: Column = [UNSET] * size if made is None else list(made)
        for index, value in zip(indexes, outputs, strict=True):
            column[index] = value
        executions.outputs[self.plan.name] = column

    def _applicable(
        self, executions: Executions, indexes: Sequence[int]
    ) -> tuple[list[int], int, int]:
        """Return the indexes for which `if` is true and `skip_if` is not.

        And how many of the others were passed over, and how many failed.
        """
        kept = list(indexes)
        failed = 0
        sure: list[int] = []
        if executions.replays and self._publishes:  # the condition held when the change was made
            sure = [k for k in kept if was_refused(executions, self.name, k)]
            kept = [k for k in kept if k not in sure] if sure else kept
        passed_over = executions.passed_over.setdefault(self.plan.name, {})
        for program, wanted in ((self._if, True), (self._skip_if, False)):
            if program is None or not kept:
                continue
            values, errors = program.column(executions, kept)
            failed += len(errors)
            going = []
            for index, value in zip(kept, values, strict=True):
                if index in errors:
                    self._fail(executions, index, errors[index])
                elif _truthy(value) is wanted:
                    going.append(index)
                else:
                    passed_over[index] = None
            kept = going
        kept = sorted([*sure, *kept]) if sure else kept
        return kept, len(indexes) - len(kept) - failed, failed

    def _await_sink(self, executions: Executions, indexes: Sequence[int]) -> int:
        """Deliver again what a sink could not take just now, until it can or the worker stops.

        A sink that is away holds the flow back; it does not pour the source into dead letters.
        Returns how many deliveries were repeated.
        """
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        repeated = 0
        since = perf_counter()
        while True:
            waiting = [k for k in indexes if _is_away(executions.failures.get(k))]
            if not waiting:
                self._waiting = ""
                if repeated:
                    executions.held_back.append(perf_counter() - since)
                return repeated
            error = executions.failures[waiting[0]]
            self._waiting = f"{self.plan.place_in_pipeline}: {error.message}"
            retry_after = getattr(error, "retry_after", None) or 0.0
            if self._halt.wait(backoff.longer(min(retry_after, 60.0))):
                self._halt.fail(_stopped_waiting(self.plan.name, error, len(waiting)))
                return repeated
            repeated += len(waiting)
            for index in waiting:
                del executions.failures[index]
            self._run(executions, waiting)

    def _settle_failures(self, executions: Executions) -> tuple[int, int]:
        """Park what is to be tried again and end the rest; return how many of each."""
        parked = gave_up = 0
        for index, error in sorted(executions.failures.items()):
            if isinstance(error, FatalError):
                self._halt.fail(error)
                break
            if self.plan.timeout is not None and error.code.endswith("_timeout"):
                error = self._overran(error)  # noqa: PLW2901 - the same error, as this step's
            if self._tries_again(executions, index, error):
                wait = self._wait(executions, index, error)
                if self._limit is not None and self._has_begun(wait):
                    left = self._limit.left(executions, index)
                    if not left:
                        over = self._limit.given_up(self.plan, error)
                        self._give_up(executions, index, over, error)
                        gave_up += 1
                        continue
                    wait = replace(wait, seconds=min(wait.seconds, left))
                self._park(executions, index, wait)
                self._hold_back(executions, index)
                parked += 1
                continue
            self._fail(executions, index, error)
            gave_up += 1
        executions.failures.clear()
        executions.failed_at.clear()
        return parked, gave_up

    def _wait(self, executions: Executions, index: int, error: PenstockError) -> Wait:
        """Return until when an execution waits that is to be tried again."""
        attempts = self._attempts(executions, index)
        asked = error.retry_after if isinstance(error, RetryableError) else None
        if isinstance(error, HeldError):
            return Wait(self.plan.number, attempts - 1, asked or 0.0, error)
        assert self._retry is not None  # noqa: S101 - it would not try again
        seconds = delay_before(self._retry, attempts, asked, self._random)
        return Wait(self.plan.number, attempts, seconds, error)

    def _has_begun(self, wait: Wait) -> bool:
        """Whether an execution's time runs: not while its first step has not been tried."""
        return wait.step > 0 or wait.attempts > 0 or bool(self.plan.within)

    def _give_up(
        self, executions: Executions, index: int, over: PenstockError, error: PenstockError
    ) -> None:
        """End an execution whose time is over, which has failed by `error` just now."""
        if self.plan.on_error == "skip" and not isinstance(error, HeldError):
            self._fail(executions, index, error)
        else:
            self._fail_at(executions, index, over)

    def _overran(self, error: PenstockError) -> PenstockError:
        """Return an error of a step's own timeout, which was this step's `timeout:`."""
        about = {**error.context, "cause": error.code}
        took = f"step {self.plan.name} overran its timeout of {self.plan.timeout:g}s"
        if isinstance(error, RetryableError):
            return RetryableError(
                f"{took}: {error.message}", code="step_timeout", hint=error.hint, **about
            )
        return PermanentError(
            f"{took}: {error.message}",
            code="step_timeout",
            hint="Raise `timeout` if the step needs longer, then replay the event.",
            **about,
        )

    def _fail(self, executions: Executions, index: int, error: PenstockError) -> None:
        if self.plan.on_error == "skip" and not isinstance(error, HeldError):
            error.forget_frames()
            executions.passed_over.setdefault(self.plan.name, {})[index] = error
        else:
            self._fail_at(executions, index, error)

    def _fail_at(self, executions: Executions, index: int, error: PenstockError) -> None:
        place = executions.failed_at.get(index, self.plan.name)
        executions.end(index, Ended("failed", place, error))


def _later(lanes: Column, index: int) -> Iterator[int]:
    """Yield the places behind `index` that have its lane, without a look at each in Python."""
    lane = lanes[index]
    while True:
        try:
            index = lanes.index(lane, index + 1)
        except ValueError:
            return
        yield index


def _is_away(error: PenstockError | None) -> bool:
    """Whether a sink could not take an event just now; one that waits for a key is parked instead."""
    return isinstance(error, RetryableError) and not isinstance(error, HeldError)


def _truthy(value: Any) -> bool:
    return value is not None and value is not False


def _stopped_waiting(step: str, error: PenstockError, count: int) -> FatalError:
    return FatalError(
        f"stopped while step {step} waited for its sink: {error.message}",
        code="sink_unavailable",
        hint=f"{count} events were not confirmed; they come again at the next start.",
        unreachable=True,
        step=step,
    )
