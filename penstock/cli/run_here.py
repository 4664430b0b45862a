"""Runs a flow's own workers for a command, where no worker of the flow does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from dlq.in_place import run_in_place
from flows.plan import FlowPlan
from penstock.cli.errors import print_error


def print_log_line(line: bytes) -> None:
    """Show a worker's log line."""
    sys.stderr.buffer.write(line + b"\n")
    sys.stderr.buffer.flush()


def run_here(
    files: Sequence[Path],
    plan: FlowPlan,
    sources: Collection[str],
    state: str | None,
    *,
    tick: Callable[[], None] = lambda: None,
    log_line: Callable[[bytes], None] = print_log_line,
) -> int:
    """Run what waits of these sources, print why that ended, if it is an error, and return the exit code.

    `state` names the state store, where it is not the flow's; `tick` is called a few times a second.
    """
    if state is not None:
        os.environ["PENSTOCK_STATE_URL"] = state  # for the workers
    code, error = run_in_place(files, plan, sources, tick=tick, log_line=log_line)
    if error is not None:
        print_error(error.code, error.message, error.hint)
    return code
