"""The numbers of a running flow, per pipeline: what the live table and the log lines show."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.contracts import Lag
from flows.runtime.reports import PipelineCounts, sum_lags
from flows.runtime.supervisor import WorkerView


@dataclass(frozen=True, slots=True)
class PipelineLine:
    """One pipeline as it is now. Counts are since the command started."""

    pipeline: str
    source: str
    counts: PipelineCounts
    lag: Lag
    rate: float
    """Executions that ended, per second."""
    state: str
    """What its workers do, or what they wait for."""

    parked: int
    """Executions that wait to be tried again, or behind one that does."""


class Progress:
    """Turns workers' reports into lines, and counts into rates over the last `window` seconds."""

    def __init__(self, pipelines: Mapping[str, Sequence[str]], window: float) -> None:
        self._pipelines = pipelines
        """Source → its pipelines, so that there are lines before there are reports."""
        self._window = window
        self._seen: dict[tuple[str, str], deque[tuple[float, int]]] = {}

    def lines(self, workers: Sequence[WorkerView], now: float) -> list[PipelineLine]:
        """Return a line per pipeline. `now` is in seconds, of any clock that only goes on."""
        lines = []
        for source, pipelines in self._pipelines.items():
            mine = [worker for worker in workers if worker.source == source]
            lag = sum_lags(lag for worker in mine for lag in worker.report.lags.values())
            state = _state(mine)
            for pipeline in pipelines:
                counts = PipelineCounts()
                for worker in mine:
                    counts += worker.counts().get(pipeline, PipelineCounts())
                rate = self._rate((source, pipeline), counts, now)
                parked = sum(worker.report.parked.get(pipeline, 0) for worker in mine)
                lines.append(PipelineLine(pipeline, source, counts, lag, rate, state, parked))
        return lines

    def _rate(self, key: tuple[str, str], counts: PipelineCounts, now: float) -> float:
        ended = counts.done + counts.failed + counts.skipped
        seen = self._seen.setdefault(key, deque())
        seen.append((now, ended))
        while len(seen) > 2 and seen[1][0] <= now - self._window:
            seen.popleft()
        since, before = seen[0]
        return (ended - before) / (now - since) if now > since else 0.0


def _state(workers: Sequence[WorkerView]) -> str:
    """Return what the workers wait for, else the states they are in, each once."""
    waits = dict.fromkeys(worker.report.status for worker in workers if worker.report.status)
    states = dict.fromkeys(worker.report.state for worker in workers)
    restarts = sum(worker.restarts for worker in workers)
    shown = "; ".join(waits) or ", ".join(states)
    return f"{shown} (restarts: {restarts})" if restarts else shown
