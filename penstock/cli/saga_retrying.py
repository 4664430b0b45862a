"""Does what `penstock saga retry` was told: asks for it, and follows it to its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.errors import FlowFileError
from flows.runtime import exits
from flows.state.backfills import is_job
from flows.state.sagas import Saga
from penstock.cli.loading import load_runnable
from penstock.cli.output import print_json
from penstock.cli.run_here import run_here
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
    files: Sequence[Path]
    state: str | None
    """The state store that was named, instead of the flow's."""
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
    code = _see_through(wanted, flow, saga) if wanted.wait else exits.DONE
    if code != exits.DONE:
        return code
    _, saga = find_saga(wanted.stored, saga.id)
    if wanted.json:
        print_json(detail(flow, saga))
    elif saga.status == "retrying":
        served = saga.source in wanted.stored.store.replays.served_sources(flow)
        where = "the running flow does it" if served else "it goes on when the flow runs"
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
    if is_job(saga.source) and saga.source not in wanted.stored.store.replays.served_sources(flow):
        raise FlowFileError(
            f"saga {saga.id} is one of a backfill that does not run, and so has no worker.",
            code="saga_of_backfill",
            hint="Resume the backfill, if it is paused: penstock backfill list. If it is over, compensate by"
            " hand what is left, then: penstock saga resolve.",
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


def _see_through(wanted: Wanted, flow: str, saga: Saga) -> int:
    """Follow it to its end; it is run here where no worker is, if the flow file is named."""
    store = wanted.stored.store

    def status() -> str:
        found = store.sagas.load(flow, saga.pipeline, [saga.id])
        return found[0].status if found else "completed"

    while status() == "retrying":
        if saga.source in store.replays.served_sources(flow):
            time.sleep(LOOK)
            continue
        if not wanted.files or is_job(saga.source):
            break  # it waits for the flow, or for the backfill to go on
        code = run_here(wanted.files, load_runnable(wanted.files), [saga.source], wanted.state)
        if code != exits.DONE:
            return code
    return exits.DONE
