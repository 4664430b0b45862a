"""Asking something of executions: which are meant, and what of it is refused at once."""

from __future__ import annotations

import re

from connectors.errors import FlowFileError
from flows.history.finding import find_execution
from flows.history.listing import PARKED, ExecutionFilter, list_executions
from flows.history.recorded import Recorded
from flows.state.contracts import StateStore
from flows.state.records import Parked
from flows.state.signals import Action

_WHOLE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_TOGETHER = 500
"""Executions that are looked for, and asked, at once."""


def ask_one(
    store: StateStore, flow: str, id_prefix: str, action: Action, *, by: str, reason: str = ""
) -> int:
    """Record a signal to an execution that waits or runs; return its number.

    One that runs just now is in no row yet: it takes the whole id. Raises FlowFileError
    `execution_unknown`, `execution_ambiguous`, `execution_ended`, `execution_not_running`.
    """
    try:
        recorded = find_execution(store, flow, id_prefix)
    except FlowFileError as error:
        execution = id_prefix.strip().lower()
        if error.code != "execution_unknown" or not _WHOLE.fullmatch(execution):
            raise
        if not store.replays.served_sources(flow):
            raise FlowFileError(
                f"execution {execution} neither waits nor runs: no worker of {flow} does.",
                code="execution_not_running",
                hint="`penstock executions list --status waiting` shows what waits.",
            ) from None
        return store.signals.ask_running(flow, execution, action, by=by, reason=reason)
    if recorded.parked is None:
        raise _ended(recorded)
    (number,) = store.signals.ask(flow, [recorded.parked], action, by=by, reason=reason)
    return number


def ask_waiting(
    store: StateStore, wanted: ExecutionFilter, action: Action, *, by: str, reason: str = ""
) -> list[int]:
    """Record a signal to each parked execution that is meant; return their numbers.

    Raises as `list_executions` does.
    """
    assert wanted.status in PARKED  # noqa: S101 - nothing else can be asked of by a filter
    numbers: list[int] = []
    cursor: str | None = None
    while True:
        page = list_executions(store, wanted, limit=_TOGETHER, cursor=cursor)
        found: list[Parked] = [each.parked for each in page.executions if each.parked is not None]
        if found:
            # Those that came first are asked first.
            numbers += store.signals.ask(wanted.flow, found[::-1], action, by=by, reason=reason)
        cursor = page.cursor
        if cursor is None:
            return numbers


def _ended(recorded: Recorded) -> FlowFileError:
    again = "`penstock executions replay` runs its event again."
    if recorded.letter is not None:
        again = "It is a dead letter: `penstock dlq replay --from-step` tries its step again."
    return FlowFileError(
        f"execution {recorded.id} has ended: it is {recorded.status}.",
        code="execution_ended",
        hint=again,
    )
