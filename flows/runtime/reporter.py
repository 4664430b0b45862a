"""Tells the supervisor how a worker is, twice a second and at its end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from connectors.contracts import Reader, SlotReading
from connectors.errors import PenstockError
from connectors.threads import watched
from flows.runtime.branch import Branch
from flows.runtime.committer import Committer
from flows.runtime.copying import LetterCopying
from flows.runtime.depths import DeadLetterDepths
from flows.runtime.halt import Halt
from flows.runtime.happenings import Happenings
from flows.runtime.intake import Intake
from flows.runtime.measures import Measures
from flows.runtime.outboxes import Outboxes
from flows.runtime.reports import (
    ErrorReport,
    Failure,
    PipelineCounts,
    Report,
    State,
    encode_happenings,
)
from flows.runtime.resources import cpu_seconds, resident_bytes
from flows.runtime.under_way import UnderWay, under_way

REPORT_EVERY = 0.5
"""Seconds."""


class Reporter:
    """Tells the supervisor how things are, on a thread of its own: also when all else waits."""

    def __init__(self, fd: int, halt: Halt, is_watched: Callable[[], bool] = lambda: False) -> None:
        """`is_watched`: whether somebody wants to see what steps do just now."""
        self.happenings = Happenings()
        self._is_watched = is_watched
        self.state: State = "starting"
        self.status = ""
        self.redact: Callable[[str], str] = str
        """Masks the flow's secrets, once the flow is read."""
        self._fd = fd
        self._halt = halt
        self._reader: Reader | None = None
        self._slots: SlotReading | None = None
        self._intake: Intake | None = None
        self._committer: Committer | None = None
        self._branches: list[Branch] = []
        self._source = ""
        self._progress = (0.0, time.monotonic())
        """The time of the last commit, and since when there was none."""
        self._depths: DeadLetterDepths | None = None
        self._outboxes: Outboxes | None = None
        self._copying: Sequence[LetterCopying] = ()
        self._wake = threading.Event()
        self.happenings.wake = self._wake.set
        self._closed = False
        self._thread = threading.Thread(
            target=watched("reporting", self._run, halt.fail), name="reporter", daemon=True
        )
        self._thread.start()

    def watch(
        self,
        source: str,
        reader: Reader | None,
        intake: Intake | None,
        committer: Committer,
        branches: list[Branch],
        *,
        depths: DeadLetterDepths | None = None,
        outboxes: Outboxes | None = None,
        copying: Sequence[LetterCopying] = (),
    ) -> None:
        """Report on these from now on."""
        self._copying = copying
        self._depths = depths
        self._outboxes = outboxes
        self._source = source
        self._reader, self._intake = reader, intake
        self._slots = reader if isinstance(reader, SlotReading) else None
        self._committer, self._branches = committer, branches
        self.state = "running"

    def close(self, error: PenstockError | None) -> None:
        """Send the last report, with the reason of the end if it is one, and stop."""
        self.state = "stopped"
        self._closed = True
        self._wake.set()
        self._thread.join(5.0)
        self._send(error)

    def _run(self) -> None:
        while not self._closed:
            self._send(None)
            due = time.monotonic() + REPORT_EVERY
            if self.happenings.on != self._is_watched():
                self.happenings.turn(on=not self.happenings.on)
            while not self._closed and (left := due - time.monotonic()) > 0:
                self._wake.wait(left)
                self._wake.clear()
                self._write(encode_happenings(self.happenings.take()))

    def _send(self, error: PenstockError | None) -> None:
        self._write(self._report(error).encode())

    def _write(self, line: bytes) -> None:
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except BrokenPipeError:
            self._halt.ask()  # the supervisor is gone: drain

    def _report(self, error: PenstockError | None) -> Report:
        state = self.state
        if state == "running" and self._halt.asked():
            state = "draining"
        failures: list[Failure] = []
        counts: dict[str, PipelineCounts] = {}
        parked: dict[str, int] = {}
        active: dict[str, int] = {}
        measures = Measures(cpu_seconds=cpu_seconds())
        for branch in self._branches:
            tally = branch.settle.tally
            counts[branch.name] = PipelineCounts(
                tally.received, tally.done, tally.failed, tally.skipped
            )
            with suppress(IndexError):
                while True:
                    letter = tally.failures.popleft()
                    failures.append(
                        Failure(
                            letter.id,
                            letter.pipeline,
                            letter.step,
                            letter.error_code,
                            letter.error_message,
                        )
                    )
            parked[branch.name] = len(branch.settle.parking)
            active[branch.name] = tally.active
            measures.pipelines[branch.name] = branch.measures()
        outbox = {} if self._outboxes is None else self._outboxes.depths()
        return Report(
            state=state,
            status=self.waits_for(),
            pipelines=counts,
            parked=parked,
            dead_letters=self._depths.found if self._depths is not None else {},
            outbox=outbox,
            lags=dict(self._reader.lag()) if self._reader is not None else {},
            failures=failures,
            error=_error_report(error, self.redact),
            connectors=self._connectors(),
            active=active,
            stalled=self._stalled(any(active.values())),
            slots=dict(self._slots.slots()) if self._slots is not None else {},
            memory=resident_bytes(),
            measures=measures,
        )

    def waits_for(self) -> str:
        """Return what the worker waits for, or ""; from any thread."""
        waits = [self.status]
        if self.state == "starting" and self._halt.asked():
            waits.append("it had not started yet")
        if self._intake is not None:
            waits += [self._intake.status, self._intake.transaction_status]
        for branch in self._branches:
            waits.extend(runner.status for runner in branch.steps)
            if branch.compensation is not None:
                waits.append(branch.compensation.status)
            waits.extend(each.status for each in (branch.once, branch.step_keys) if each)
        waits.extend(copying.status for copying in self._copying)
        if self._committer is not None:
            waits.append(self._committer.status)
        if self._reader is not None:
            waits.append(self._reader.status())
        if self._outboxes is not None:
            waits.append(self._outboxes.status)
        return self.redact("; ".join(wait for wait in waits if wait))

    def under_way(self) -> list[UnderWay]:
        """Return the steps that run just now; from any thread."""
        return under_way(self._branches)

    def _connectors(self) -> dict[str, str]:
        """Return what the source, each sink and each step with a circuit breaker wait for."""
        found: dict[str, str] = {}
        if self._reader is not None:
            found[self._source] = self.redact(self._reader.status())
        for branch in self._branches:
            for runner in branch.every_runner():
                if runner.plan.type == "step.publish" and runner.plan.outbox is None:
                    sink = runner.plan.settings.sink
                    found[sink] = found.get(sink) or self.redact(runner.status)
                elif _may_break(runner.plan.settings):
                    name = runner.plan.use or f"{branch.name}/{runner.plan.place_in_pipeline}"
                    found[name] = found.get(name) or self.redact(runner.status)
        if self._outboxes is not None:
            for sink, waits in self._outboxes.sinks().items():
                found[sink] = found.get(sink) or self.redact(waits)
        for copying in self._copying:
            found[copying.sink] = found.get(copying.sink) or self.redact(copying.status)
        return found

    def _stalled(self, active: bool) -> float:
        """Return for how long nothing has been checkpointed although something waits for it."""
        now = time.monotonic()
        committer = self._committer
        if committer is None or not (active or committer.outstanding):
            self._progress = (0.0 if committer is None else committer.last_commit, now)
        elif committer.last_commit != self._progress[0]:
            self._progress = (committer.last_commit, now)
        return now - self._progress[1]


def _error_report(error: PenstockError | None, redact: Callable[[str], str]) -> ErrorReport | None:
    if error is None:
        return None
    unreachable = getattr(error, "unreachable", False)
    return ErrorReport(error.code, redact(error.message), redact(error.hint), unreachable)


def _may_break(settings: object) -> bool:
    breaker = getattr(settings, "circuit_breaker", None)
    return breaker is not None and bool(breaker.enabled)
