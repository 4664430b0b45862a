"""What a worker measures of its pipelines and steps: counters and histograms.

Taken once per batch and step, never per event: what a batch took is spread evenly over its events.
They count from the worker's start; the supervisor adds up those of the workers that came before.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BOUNDS = (
    *(0.00001, 0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""Upper bounds in seconds of a histogram's buckets; behind them comes one without a bound."""


@dataclass(slots=True)
class Histogram:
    """How many things took how long."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """Per bucket, not added up."""
    seconds: float = 0.0
    """Of all together."""

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count `times` things that took `seconds` each."""
        self.counts[bisect_left(BOUNDS, seconds)] += times
        self.seconds += seconds * times

    def __add__(self, other: Histogram) -> Histogram:
        pairs = zip(self.counts, other.counts, strict=True)
        return Histogram([one + two for one, two in pairs], self.seconds + other.seconds)


@dataclass(slots=True)
class StepMeasures:
    """What one step did. `failed` counts executions it gave up on; each may have had `retries`."""

    completed: int = 0
    failed: int = 0
    skipped: int = 0
    """Passed over by `if` or `skip_if`."""
    retries: int = 0
    """Tries that are to be repeated."""
    durations: Histogram = field(default_factory=Histogram)

    def __add__(self, other: StepMeasures) -> StepMeasures:
        return StepMeasures(
            self.completed + other.completed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.retries + other.retries,
            self.durations + other.durations,
        )


class StepMeter:
    """Takes a step's measures. A step inside a loop may be run by several threads at once."""

    def __init__(self) -> None:
        self._measures = StepMeasures()
        self._lock = threading.Lock()

    def ran(self, count: int, *, failed: int, retried: int, skipped: int, seconds: float) -> None:
        """Count a batch: the step ran for `count` executions, and took `seconds` for all of them."""
        measures = self._measures
        with self._lock:
            measures.completed += count - failed - retried
            measures.failed += failed
            measures.retries += retried
            measures.skipped += skipped
            if count:
                measures.durations.observe(seconds / count, count)

    def measures(self) -> StepMeasures:
        """Return a copy of what was measured so far."""
        with self._lock:
            return self._measures + StepMeasures()


@dataclass(slots=True)
class PipelineMeasures:
    """What one pipeline did, beside what `flows.runtime.reports.PipelineCounts` holds."""

    recorded: int = 0
    """Executions put into the history."""
    durations: Histogram = field(default_factory=Histogram)
    """From an execution's start to its outcome, the time it was parked included."""
    steps: dict[str, StepMeasures] = field(default_factory=dict)
    """By place in the pipeline: `charge`, `lines.charge`."""

    def __add__(self, other: PipelineMeasures) -> PipelineMeasures:
        names = dict.fromkeys((*self.steps, *other.steps))
        nothing = StepMeasures()
        return PipelineMeasures(
            self.recorded + other.recorded,
            self.durations + other.durations,
            {n: self.steps.get(n, nothing) + other.steps.get(n, nothing) for n in names},
        )


@dataclass(slots=True)
class Measures:
    """What one worker measured."""

    pipelines: dict[str, PipelineMeasures] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    """Of the process, user and system."""

    def __add__(self, other: Measures) -> Measures:
        names = dict.fromkeys((*self.pipelines, *other.pipelines))
        nothing = PipelineMeasures()
        return Measures(
            {n: self.pipelines.get(n, nothing) + other.pipelines.get(n, nothing) for n in names},
            self.cpu_seconds + other.cpu_seconds,
        )

    @classmethod
    def decode(cls, data: Mapping[str, Any]) -> Measures:
        """Return the measures of parsed JSON. Raises KeyError, TypeError."""
        return cls(
            {name: _pipeline(each) for name, each in data["pipelines"].items()},
            data["cpu_seconds"],
        )


def _pipeline(data: Mapping[str, Any]) -> PipelineMeasures:
    return PipelineMeasures(
        data["recorded"],
        Histogram(**data["durations"]),
        {
            name: StepMeasures(**{**step, "durations": Histogram(**step["durations"])})
            for name, step in data["steps"].items()
        },
    )
