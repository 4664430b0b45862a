"""Does what `penstock saga retry` was told: asks for it, and follows it to its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.errors import FlowFileError
from flows.runtime import exits
from flows.state.sagas import Saga
from penstock.cli.output import print_json
from penstock.cli.saga_finding import change, find_saga
from penstock.cli.saga_report import detail, print_saga

if TYPE_CHECKING:
    from penstock.cli.stored import Stored

LOOK = 0.2
"""Seconds between looks at a saga that a running flow works on."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command was told."""

    stored: Stored
    done: Sequence[str]
    wait: bool
    json: bool


def retry_saga(wanted: Wanted, id_prefix: str) -> int:
    """Ask for a saga's compensations to be tried again; return the exit code."""
    flow, saga = find_saga(wanted.stored, id_prefix)
    if saga.status != "retrying":
        _ask(wanted, flow, saga)
    elif wanted.done:
        raise FlowFileError(
            f"saga {saga.id} is being retried.",
            code="saga_status",
            hint="Wait for its end before you say what is done: penstock saga show.",
        )
    runs = wanted.stored.store.sagas.is_running(flow, saga.source)
    if runs and wanted.wait:
        saga = _followed(wanted, flow, saga)
    if wanted.json:
        print_json(detail(flow, saga))
    elif saga.status == "retrying":
        where = "the running flow does it" if runs else "it goes on when the flow runs"
        print(f"Saga {saga.id}: {where}. See: penstock saga show {saga.id}")
    else:
        print_saga(flow, saga)
    return exits.FOUND_FAILURES if saga.status == "compensation_failed" else exits.DONE


def _ask(wanted: Wanted, flow: str, saga: Saga) -> None:
    if saga.status != "compensation_failed":
        raise FlowFileError(
            f"saga {saga.id} is {saga.status}: only one whose compensation failed is retried.",
            code="saga_status",
            hint="`penstock saga list --status compensation_failed` shows those.",
        )
    now = time.time()
    for name in wanted.done:
        step = saga.steps.get(name)
        if step is None or step.undoing is None or step.undoing.status == "done":
            left = [n for n, s in saga.steps.items() if s.undoing and s.undoing.status != "done"]
            raise FlowFileError(
                f"no compensation of a step {name} is left in saga {saga.id}.",
                code="saga_step",
                hint=f"Left is that of {' and '.join(left)}.",
            )
        step.undoing.status, step.undoing.at, step.undoing.error = "done", now, None
    for step in saga.steps.values():
        if step.undoing is not None and step.undoing.status != "done":
            step.undoing.status, step.undoing.attempts = "again", 0
    saga.status, saga.updated_at = "retrying", now
    change(wanted.stored, flow, saga, "compensation_failed")


def _followed(wanted: Wanted, flow: str, saga: Saga) -> Saga:
    """Wait for the end of it, as long as a worker is on it."""
    sagas = wanted.stored.store.sagas
    while saga.status == "retrying" and sagas.is_running(flow, saga.source):
        time.sleep(LOOK)
        found = sagas.load(flow, saga.pipeline, [saga.id])
        if not found:
            break
        saga = found[0]
    return saga
