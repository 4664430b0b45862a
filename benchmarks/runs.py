"""Starting a worker under measurement, and reading how far it is."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.runtime.orders import WorkerOrder
from flows.runtime.reports import Report


@contextmanager
def worker_command() -> Iterator[tuple[Path, Callable[[Path, str], list[str]]]]:
    """Give a folder for a flow, and a function (flow file, source) → a worker's command line."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:

        def command(flow: Path, source: str) -> list[str]:
            order = WorkerOrder(files=[str(flow)], source=source, holder="bench", report_fd=99)
            text = order.encode().replace('"report_fd":99', '"report_fd":REPORT_FD')
            return [sys.executable, "-m", "flows.runtime.process", text]

        yield Path(name), command


def received(line: bytes) -> int:
    """Return the events that a worker's report counts."""
    report = Report.decode(line)
    if report.error is not None:
        raise SystemExit(f"the worker stopped: {report.error}")
    return max((counts.done for counts in report.pipelines.values()), default=0)


def count_line(line: bytes) -> int:
    """Return the number that a bare loop printed."""
    return int(line)
