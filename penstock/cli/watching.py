"""What `penstock run` shows while it runs: a live table on a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, final

import structlog
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import Self, override

from flows.runtime.reports import ErrorReport, Failure
from flows.runtime.supervisor import Watcher, WorkerView
from penstock.cli.amounts import show_lag
from penstock.cli.output import printable
from penstock.cli.progress import PipelineLine, Progress

LINES_EVERY = 10.0
"""Seconds between log lines with the numbers."""

RATE_WINDOW = 5.0
"""Seconds over which the live table's rates are taken."""

FAILURES_SHOWN = 5


class RunWatcher(Watcher):
    """What both kinds of display have in common; a context manager around the run.

    `pipelines` maps each source to its pipelines. `dlq_arguments` stand behind
    `penstock dlq show ID`.
    """

    def __init__(
        self,
        pipelines: Mapping[str, Sequence[str]],
        dlq_arguments: str,
        window: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ended_by: ErrorReport | None = None
        self._progress = Progress(pipelines, window)
        self._clock = clock
        self._started = clock()
        self._dlq_arguments = dlq_arguments
        self._lines: list[PipelineLine] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """Show how it ended."""

    @override
    def error(self, error: ErrorReport) -> None:
        self.ended_by = error

    def _show_command(self, failure: Failure) -> str:
        return f"penstock dlq show {failure.id} {self._dlq_arguments}".rstrip()

    def _list_command(self) -> str:
        return f"penstock dlq list {self._dlq_arguments}".rstrip()


@final
class LogWatcher(RunWatcher):
    """Writes a log line per pipeline every ten seconds, and a summary at the end."""

    def __init__(
        self,
        pipelines: Mapping[str, Sequence[str]],
        dlq_arguments: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(pipelines, dlq_arguments, LINES_EVERY, clock)
        self._log = structlog.get_logger("penstock.run")
        self._next = self._started + LINES_EVERY

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        seconds = round(self._clock() - self._started, 1)
        for line in self._lines:
            self._log.info("summary", seconds=seconds, **_numbers(line))

    @override
    def tick(self, workers: Sequence[WorkerView]) -> None:
        now = self._clock()
        self._lines = self._progress.lines(workers, now)
        if now < self._next:
            return
        self._next = now + LINES_EVERY
        for line in self._lines:
            self._log.info("progress", **_numbers(line), rate=round(line.rate, 1), state=line.state)

    @override
    def failed(self, failure: Failure) -> None:
        self._log.warning(
            "dead letter",
            id=failure.id,
            pipeline=failure.pipeline,
            step=failure.step,
            code=failure.code,
            error=failure.message,
            show=self._show_command(failure),
        )

    @override
    def restarting(self, worker: WorkerView, code: int, delay: float) -> None:
        self._log.warning(
            "worker ended and starts again",
            source=worker.source,
            shard=worker.index,
            ended=_how(code),
            delay=round(delay, 1),
        )

    @override
    def stopping(self, signal_name: str) -> None:
        self._log.info("draining; a second signal kills", signal=signal_name)


@final
class LiveWatcher(RunWatcher):
    """Keeps a table at the bottom of the terminal; log lines scroll above it."""

    def __init__(
        self,
        pipelines: Mapping[str, Sequence[str]],
        dlq_arguments: str = "",
        clock: Callable[[], float] = time.monotonic,
        console: Console | None = None,
    ) -> None:
        super().__init__(pipelines, dlq_arguments, RATE_WINDOW, clock)
        self._console = console or Console(stderr=True, highlight=False)
        self._failures: deque[Failure] = deque(maxlen=FAILURES_SHOWN)
        self._stopping = False
        # What this process prints must not run into the table; into a pipe it goes as it is.
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=sys.stdout.isatty()
        )

    @override
    def __enter__(self) -> Self:
        self._live.start()
        return self

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        self._live.update(self._view(final=True), refresh=True)
        self._live.stop()

    @override
    def tick(self, workers: Sequence[WorkerView]) -> None:
        self._lines = self._progress.lines(workers, self._clock())
        self._live.update(self._view(), refresh=True)

    @override
    def failed(self, failure: Failure) -> None:
        self._failures.append(failure)

    @override
    def restarting(self, worker: WorkerView, code: int, delay: float) -> None:
        self._say(
            f"worker {worker.index} of {worker.source} {_how(code)};"
            f" it starts again in {delay:.1f} s"
        )

    @override
    def stopping(self, signal_name: str) -> None:
        self._stopping = True
        self._say("draining: what is in flight is finished and stored; Ctrl-C again kills")

    @override
    def log_line(self, line: bytes) -> None:
        self._console.print(Text.from_ansi(line.decode(errors="replace")), soft_wrap=True)

    def _say(self, text: str) -> None:
        self._console.print(Text(text, style="yellow"))

    def _view(self, *, final: bool = False) -> Group:
        shown: list[Any] = [_table(self._lines)]
        if self._failures:
            shown.append(Text("\nLast failures:", style="bold"))
            for failure in self._failures:
                place = f"{failure.pipeline}/{failure.step}" if failure.step else failure.pipeline
                text = Text.assemble(("  ✗ ", "red"), (failure.code, "bold"), f" in {place}: ")
                text.append(printable(failure.message))
                text.no_wrap, text.overflow = True, "ellipsis"
                shown.append(text)
                shown.append(Text(f"    {self._show_command(failure)}", style="dim"))
        if final:
            shown.append(Text(self._summary()))
        elif not self._stopping:
            shown.append(Text("\nCtrl-C drains and stops.", style="dim"))
        return Group(*shown)

    def _summary(self) -> str:
        seconds = self._clock() - self._started
        done = sum(line.counts.done for line in self._lines)
        failed = sum(line.counts.failed for line in self._lines)
        text = f"\n{done:,} done, {failed:,} failed in {seconds:.1f} s."
        return f"{text} Look at the failed ones: {self._list_command()}" if failed else text


def _table(lines: Sequence[PipelineLine]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("pipeline", overflow="fold")
    table.add_column("source", overflow="fold")
    for heading in ("in", "done", "failed", "parked", "lag", "rate/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for line in lines:
        counts = line.counts
        table.add_row(
            Text(line.pipeline),
            Text(line.source),
            f"{counts.received:,}",
            f"{counts.done:,}",
            Text(f"{counts.failed:,}", style="red" if counts.failed else ""),
            f"{line.parked:,}",
            show_lag(line.lag),
            f"{line.rate:,.0f}" if line.rate >= 10 else f"{line.rate:.1f}",
            Text(printable(line.state), style="" if line.state == "running" else "yellow"),
        )
    return table


def _numbers(line: PipelineLine) -> dict[str, Any]:
    counts = line.counts
    numbers: dict[str, Any] = {
        "pipeline": line.pipeline,
        "source": line.source,
        "received": counts.received,
        "done": counts.done,
        "failed": counts.failed,
        "parked": line.parked,
    }
    for name in ("events", "bytes", "seconds"):
        value = getattr(line.lag, name)
        if value is not None:
            numbers[f"lag_{name}"] = round(value, 1)
    return numbers


def _how(code: int) -> str:
    """Say how a process ended."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
