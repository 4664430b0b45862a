"""Does what `penstock executions pause` and the like were told: asks, and follows it to its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.errors import FlowFileError
from dlq.replay import somebody
from flows.history.asking import ask_one, ask_waiting
from flows.history.documents import signal_document
from flows.history.listing import ExecutionFilter
from flows.runtime import exits
from flows.state.signals import Action, Signal
from penstock.cli.dlq_selecting import moment
from penstock.cli.executions_signals import Conditions
from penstock.cli.grouping import any_given
from penstock.cli.loading import load_runnable
from penstock.cli.output import count, print_json
from penstock.cli.run_here import run_here

if TYPE_CHECKING:
    from penstock.cli.stored import Stored

LOOK = 0.1
"""Seconds between looks at signals that a running flow is to obey."""

PATIENCE = 5.0
"""Seconds that are waited for what may take long: a step that runs, another's turn."""

_SHOWN = 20
"""Signals that are told of one by one."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command was told."""

    stored: Stored
    flow: str
    files: Sequence[Path]
    state: str | None
    """The state store that was named, instead of the flow's."""
    action: Action
    reason: str
    wait: bool
    json: bool


def send_signals(
    wanted: Wanted, ids: Sequence[str], conditions: Conditions, *, everything: bool
) -> int:
    """Ask for it, and see it through; return the exit code."""
    if bool(ids) == (any_given(conditions) or everything):
        raise FlowFileError(
            "which executions? It takes ids, or a filter such as --pipeline, or --all; not both.",
            code="usage",
            hint="`penstock executions list --status waiting` shows ids.",
        )
    store, by = wanted.stored.store, somebody()
    if ids:
        numbers = [
            ask_one(store, wanted.flow, each, wanted.action, by=by, reason=wanted.reason)
            for each in ids
        ]
    else:
        chosen = _filter(wanted, conditions)
        numbers = ask_waiting(store, chosen, wanted.action, by=by, reason=wanted.reason)
    code = _see_through(wanted, numbers) if wanted.wait else exits.DONE
    if code != exits.DONE:
        return code
    found = store.signals.get(numbers)
    if wanted.json:
        print_json({"signals": list(map(signal_document, found))})
    else:
        _tell(wanted, found)
    return exits.FOUND_FAILURES if any(s.status == "refused" for s in found) else exits.DONE


def _filter(wanted: Wanted, conditions: Conditions) -> ExecutionFilter:
    if conditions.pipeline is not None:
        wanted.stored.check_pipeline(conditions.pipeline)
    now = time.time()
    return ExecutionFilter(
        wanted.flow,
        pipeline=conditions.pipeline,
        status="paused" if wanted.action == "resume" else "waiting",
        error_code=conditions.error,
        event_type=conditions.type,
        tenant=conditions.tenant,
        since=moment(conditions.since, "--since", now),
        until=moment(conditions.until, "--until", now),
        where=conditions.where,
    )


def _see_through(wanted: Wanted, numbers: Sequence[int]) -> int:
    """Follow signals until they are obeyed, or wait for what may take long."""
    store = wanted.stored.store
    end = time.monotonic() + PATIENCE
    while True:
        left = [each for each in store.signals.get(numbers) if each.status == "waiting"]
        if not left:
            return exits.DONE
        served = store.replays.served_sources(wanted.flow)
        alone = {each.source for each in left if each.source is not None} - served
        if alone and wanted.files:
            code = _run_here(wanted, sorted(alone))
            if code != exits.DONE:
                return code
            end = min(end, time.monotonic())  # what is left now waits for its turn
        elif alone == {each.source for each in left} or time.monotonic() > end:
            return exits.DONE
        else:
            time.sleep(LOOK)


def _run_here(wanted: Wanted, sources: Sequence[str]) -> int:
    plan = load_runnable(wanted.files)
    known = [source.name for source in plan.sources if source.pipelines]
    gone = [source for source in sources if source not in known]
    if gone:
        raise FlowFileError(
            f"the flow no longer has the source {gone[0]}, whose executions wait.",
            code="source_gone",
            hint="Put it back, or run the flow that has it.",
        )
    return run_here(wanted.files, plan, sources, wanted.state)


def _tell(wanted: Wanted, found: Sequence[Signal]) -> None:
    if not found:
        print("No executions.")
        return
    for each in found[:_SHOWN]:
        note = f": {each.note}" if each.note else ""
        print(f"{each.execution}  {each.action}  {each.status}{note}")
    waiting = sum(each.status == "waiting" for each in found)
    if len(found) > _SHOWN:
        refused = sum(each.status == "refused" for each in found)
        applied = len(found) - waiting - refused
        print(f"{count(len(found), 'execution')}: {applied} applied, {refused} refused.")
    if waiting:
        served = wanted.stored.store.replays.served_sources(wanted.flow)
        when = "the running flow does it in its turn" if served else "it is done when the flow runs"
        print(f"{waiting} not yet: {when}. See: penstock executions show ID")
