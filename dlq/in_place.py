"""Replays where no worker runs: the flow's own workers, started for that and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from typing_extensions import override

from flows.plan import FlowPlan
from flows.runtime.reports import ErrorReport
from flows.runtime.supervisor import RunOptions, Supervisor, Watcher, WorkerView


class _Onlooker(Watcher):
    """Tells how it goes, and keeps why it ended."""

    def __init__(self, tick: Callable[[], None], log_line: Callable[[bytes], None]) -> None:
        self.ended_by: ErrorReport | None = None
        self._tick = tick
        self._log_line = log_line

    @override
    def tick(self, workers: Sequence[WorkerView]) -> None:
        self._tick()

    @override
    def log_line(self, line: bytes) -> None:
        self._log_line(line)

    @override
    def error(self, error: ErrorReport) -> None:
        self.ended_by = error


def run_in_place(
    files: Sequence[Path],
    plan: FlowPlan,
    sources: Collection[str],
    *,
    tick: Callable[[], None],
    log_line: Callable[[bytes], None],
) -> tuple[int, ErrorReport | None]:
    """Run the replays of these sources to their end; return the exit code, and why it ended.

    It takes the lease of each source, so a flow that is started meanwhile waits; one that runs
    already replays them itself, and this ends. Nothing is read from the sources. What was parked
    goes on too while it lasts: order is kept with it. Call from the main thread; `tick` is called
    a few times a second.
    """
    onlooker = _Onlooker(tick, log_line)
    options = RunOptions(only_replays=frozenset(sources), log_format="console", log_level="warning")
    return Supervisor(files, plan, options, onlooker).run(), onlooker.ended_by
