"""What the workers last reported, as the server's threads read it.

The supervisor writes (`see`, a few times a second), anybody reads: what is written is replaced and
never changed, so nobody waits for anybody.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

from connectors.contracts import Lag, SlotHealth
from flows.runtime.happenings import Happening
from flows.runtime.measures import Measures
from flows.runtime.reports import PipelineCounts
from flows.runtime.supervisor import WorkerView

STALE_AFTER = 10.0
"""Seconds without a report after which a worker counts as not answering; they come twice a second."""

RATES_OVER, SAMPLE_EVERY = 300.0, 5.0
"""Seconds: over which error rates are taken, and between two looks at the counts."""

MOST_HAPPENINGS = 2000
"""Of what steps do just now, those that are kept for who watches: more than some seconds of them."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of how many failed."""

    failed: int = 0
    total: int = 0

    @property
    def percent(self) -> float:
        """Return the failed ones in percent; 0 where nothing was done."""
        return 100.0 * self.failed / self.total if self.total else 0.0

    def __sub__(self, other: Rate) -> Rate:
        return Rate(self.failed - other.failed, self.total - other.total)


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    pipelines: dict[str, Rate] = field(default_factory=dict)
    steps: dict[tuple[str, str], Rate] = field(default_factory=dict)


class Live:
    """The workers of the run, as they were a moment ago."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """`watch` tells the workers that somebody watches; it holds for some seconds."""
        self._clock = clock
        self.watch = watch
        self._recent: tuple[int, tuple[Happening, ...]] = (0, ())
        """What happened last, and the number of the first of it; replaced as one."""
        self._workers: tuple[WorkerView, ...] = ()
        self._samples: deque[_Sample] = deque([_Sample(clock())])

    def see(self, workers: Sequence[WorkerView]) -> None:
        """Take the workers as they are: a supervisor's `observe`."""
        self._workers = tuple(copy(worker) for worker in workers)
        now = self._clock()
        if now - self._samples[-1].at >= SAMPLE_EVERY:
            self._samples.append(self._sample(now))
            while self._samples[0].at < now - RATES_OVER:
                self._samples.popleft()

    def happened(self, found: Sequence[Happening]) -> None:
        """Take what steps did just now: a supervisor's `happened`."""
        first, known = self._recent
        every = (*known, *found)
        gone = max(0, len(every) - MOST_HAPPENINGS)
        self._recent = (first + gone, every[gone:])

    def since(self, number: int | None) -> tuple[int, Sequence[Happening]]:
        """Return what happened behind the number that the last call gave, and the next number."""
        first, found = self._recent
        end = first + len(found)
        return end, () if number is None else found[max(0, number - first) :]

    @property
    def workers(self) -> tuple[WorkerView, ...]:
        """Return the workers in the order in which they were planned."""
        return self._workers

    def of_source(self, source: str) -> list[WorkerView]:
        """Return a source's workers."""
        return [worker for worker in self._workers if worker.source == source]

    def trouble(self, worker: WorkerView) -> str:
        """Return why a worker is not ready, "" when it is. A standby is ready to take over."""
        if worker.done:
            return ""
        if worker.pid is None:
            return "its process has ended and is started again"
        silent = self.silent(worker)
        if silent > STALE_AFTER:
            return f"it has not reported for {silent:.0f} s"
        if worker.report.state in {"running", "standby"}:
            return ""
        return f"it is {worker.report.state}"

    def silent(self, worker: WorkerView) -> float:
        """Return the seconds since a worker's last report, or since it was started."""
        return max(0.0, self._clock() - worker.reported)

    def counts(self, source: str, pipeline: str) -> PipelineCounts:
        """Return a pipeline's counts since the command started."""
        total = PipelineCounts()
        for worker in self.of_source(source):
            total += worker.counts().get(pipeline, PipelineCounts())
        return total

    def parked(self, source: str, pipeline: str) -> int:
        """Return how many executions of a pipeline wait."""
        return sum(worker.report.parked.get(pipeline, 0) for worker in self.of_source(source))

    def outbox(self, source: str, pipeline: str) -> int | None:
        """Return how many events of a pipeline are in outboxes; None before the first count."""
        for worker in self.of_source(source):
            if pipeline in worker.report.outbox:
                return worker.report.outbox[pipeline]
        return None

    def active(self, source: str, pipeline: str) -> int:
        """Return how many executions of a pipeline are in their steps."""
        return sum(worker.report.active.get(pipeline, 0) for worker in self.of_source(source))

    def lags(self, source: str) -> dict[str, Lag]:
        """Return partition → how far a source's workers are behind."""
        found: dict[str, Lag] = {}
        for worker in self.of_source(source):
            found |= worker.report.lags
        return found

    def slots(self, source: str) -> dict[str, SlotHealth]:
        """Return a source's replication slots, as workers that run saw them last."""
        found: dict[str, SlotHealth] = {}
        for worker in self.of_source(source):
            if not self.trouble(worker):
                found |= worker.report.slots
        return found

    def measures(self) -> Measures:
        """Return what all workers measured since the command started."""
        total = Measures()
        for worker in self._workers:
            total += worker.measures()
        return total

    def error_rates(self) -> tuple[dict[str, Rate], dict[tuple[str, str], Rate]]:
        """Return the part that failed in the last minutes: by pipeline, by (pipeline, step)."""
        then, now = self._samples[0], self._sample(self._clock())
        return (
            {name: rate - then.pipelines.get(name, Rate()) for name, rate in now.pipelines.items()},
            {name: rate - then.steps.get(name, Rate()) for name, rate in now.steps.items()},
        )

    def _sample(self, now: float) -> _Sample:
        sample = _Sample(now)
        for worker in self._workers:
            for name, counts in worker.counts().items():
                before = sample.pipelines.get(name, Rate())
                failed = before.failed + counts.failed
                sample.pipelines[name] = Rate(failed, before.total + counts.done + counts.failed)
        for name, pipeline in self.measures().pipelines.items():
            for step, measures in pipeline.steps.items():
                total = measures.completed + measures.failed
                sample.steps[name, step] = Rate(measures.failed, total)
        return sample
