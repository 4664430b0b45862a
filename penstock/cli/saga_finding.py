"""Finds a saga by the start of its id, and changes what an operator may change of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from connectors.errors import FlowFileError
from flows.state.sagas import UNFINISHED, Saga

if TYPE_CHECKING:
    from penstock.cli.stored import Stored


def find_saga(stored: Stored, id_prefix: str) -> tuple[str, Saga]:
    """Return (flow, saga). Raises FlowFileError `saga_unknown` or `saga_ambiguous`."""
    prefix = id_prefix.strip().lower()
    if prefix.endswith((".yaml", ".yml")):
        raise FlowFileError(
            f"{id_prefix} is a flow file, not the id of a saga.",
            code="saga_unknown",
            hint="The id comes first: penstock saga show ID FLOW.yaml",
        )
    found = stored.store.sagas.find(stored.flow, prefix) if prefix else []
    found = [pair for pair in found if pair[1].id == prefix] or found
    if not found:
        raise FlowFileError(
            f"there is no saga {prefix!r}{f' in flow {stored.flow}' if stored.flow else ''}.",
            code="saga_unknown",
            hint="`penstock saga list` shows the ids. One that has completed is not kept.",
        )
    if len(found) > 1:
        shown = ", ".join(f"{saga.id} ({flow}, {saga.pipeline})" for flow, saga in found[:5])
        raise FlowFileError(
            f"{prefix!r} fits several sagas: {shown}{', …' if len(found) > 5 else ''}.",
            code="saga_ambiguous",
            hint="Give more of the id, or name the flow too.",
        )
    return found[0]


def resolve_saga(stored: Stored, id_prefix: str, note: str) -> tuple[str, Saga]:
    """Mark a saga as settled by hand. Raises FlowFileError."""
    flow, saga = find_saga(stored, id_prefix)
    before = saga.status
    if before in {"compensated", "resolved"}:
        raise FlowFileError(
            f"saga {saga.id} is {before}: there is nothing to resolve.",
            code="saga_status",
            hint="`penstock saga show` tells what was done.",
        )
    busy = before in {*UNFINISHED, "retrying"}
    if busy and saga.source in stored.store.replays.served_sources(flow):
        raise FlowFileError(
            f"saga {saga.id} is {before}, and a worker is on it.",
            code="saga_status",
            hint="Wait for its end; or stop the flow, if its event will never come again.",
        )
    saga.status, saga.note, saga.updated_at = "resolved", note, time.time()
    change(stored, flow, saga, before)
    return flow, saga


def change(stored: Stored, flow: str, saga: Saga, before: str) -> None:
    """Store what was changed of a saga that was `before`. Raises FlowFileError."""
    if not stored.store.sagas.change(flow, saga, expected=[before]):
        raise FlowFileError(
            f"saga {saga.id} has changed meanwhile.",
            code="saga_status",
            hint="Somebody else is on it: look at it with `penstock saga show`.",
        )
