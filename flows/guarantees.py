"""What is promised of an event on its way from a source to a sink, and why. Pure decisions.

The road always is: effects durable → settled and checkpointed in one transaction → acknowledged
upstream. So no event is lost on any edge. What a sink does with the events that were in flight
when a process died decides whether it shows one of them twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from connectors.contracts import SinkTraits, SourceTraits

Promise = Literal["at least once", "effectively once", "exactly once", "once per key"]


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One edge: a source to the sink of a publish step."""

    promise: Promise
    reason: str
    """One sentence."""
    ordered: bool
    order_reason: str
    """One sentence."""
    repeats: bool = False
    """A crash shows what was in flight a second time."""


def edge_guarantee(
    source: SourceTraits,
    sink: SinkTraits,
    *,
    skips: bool = False,
    in_transaction: bool = False,
    keyed: bool = False,
    idempotent: bool = False,
    outbox_of: str | None = None,
) -> Guarantee:
    """Return what holds for events of `source` at `sink`.

    `in_transaction`: the pipeline says `delivery: exactly_once`. `keyed`: it has `idempotency`.
    `idempotent`: the publish step is. `outbox_of`: the database step with whose change it publishes.
    `skips`: the publish step has `on_error: skip`, so that what the sink refuses goes nowhere.
    """
    promise, reason = _IN_TRANSACTION if in_transaction else _PROMISES[sink.delivery]
    if outbox_of is not None:
        reason = _OUTBOX.format(step=outbox_of)
    if idempotent:
        promise, reason = "once per key", _IDEMPOTENT
    if keyed:
        promise, reason = "once per key", f"{_KEYED} {reason}"
    if skips:
        reason = (
            f"{reason} An event that the sink refuses for good is passed over (on_error: skip)."
        )
    ordered, order_reason = _order(source, sink)
    if ordered and outbox_of is not None:
        order_reason = (
            "In order: events of one key of the pipeline arrive as their changes were made."
        )
    repeats = sink.delivery == "at_least_once" and not in_transaction
    return Guarantee(promise, reason, ordered, order_reason, repeats)


_KEYED = "An event whose idempotency key is done is skipped, and one whose key is held waits."


_OUTBOX = (
    "Together with the change of {step}: one transaction holds both, so both happen or neither. From"
    " there it is delivered; after a crash what was in flight is again, with the same event id."
)
_IDEMPOTENT = (
    "What was published under a key is not published again; only what a crash cut off before that was"
    " stored is, with the same event id."
)

_PROMISES: dict[str, tuple[Promise, str]] = {
    "at_least_once": (
        "at least once",
        "After a crash what was in flight is delivered again, with the same event id.",
    ),
    "effectively_once": (
        "effectively once",
        "The sink's state is stored with the position; what it wrote after that is undone, or known.",
    ),
    "exactly_once": (
        "exactly once",
        "The sink shows an event only once its position is stored.",
    ),
}

_IN_TRANSACTION: tuple[Promise, str] = (
    "exactly once",
    "Events and positions are one Kafka transaction: readers of committed events see each once.",
)


def _order(source: SourceTraits, sink: SinkTraits) -> tuple[bool, str]:
    if not source.ordered:
        return False, "No order: the source itself gives none."
    if not sink.ordered:
        return False, "No order: the sink may be through with a later event first."
    return True, "In order: events of one key arrive as they left the source."


def copy_guarantee(sink: SinkTraits) -> tuple[Promise, str]:
    """Return what is promised of copies of dead letters at `sink`, and why."""
    stored = "A copy is stored with its dead letter, and forgotten once the sink has confirmed it."
    if sink.delivery == "effectively_once":
        return "effectively once", f"{stored} {_PROMISES[sink.delivery][1]}"
    return "at least once", f"{stored} A crash between the two shows it again, with the same id."


def after_crash(
    effects: Sequence[str], edges: Sequence[tuple[str, Guarantee]], keyed: Sequence[str] = ()
) -> str:
    """Return one sentence on what happens twice when a worker dies.

    `effects` are the steps that change something outside, publish steps left out; `edges` the
    publish steps with their guarantees; `keyed` effects of idempotent steps.
    """
    again = [*effects, *(name for name, edge in edges if edge.repeats)]
    worked = "The events in flight are worked on again"
    if not again and not keyed:
        return f"{worked}; nothing outside happens twice."
    said = [f"{worked}."]
    if again:
        said = [f"{worked}: {', '.join(again)} {_act(again)} a second time for those."]
    if keyed:
        said.append(
            f"{', '.join(keyed)} {_act(keyed)} again only where what was done is not stored yet, under"
            " the same key."
        )
    return " ".join(said)


def _act(names: Sequence[str]) -> str:
    return "acts" if len(names) == 1 else "act"


def after_crash_in_saga(again: Sequence[str], in_doubt: Sequence[str]) -> str:
    """Return one sentence on what a saga does when its worker has died.

    `again` are the steps whose repeat does no harm, `in_doubt` those that are not run twice.
    """
    said = "A saga goes on where it was; a step that is done is not run again."
    if again:
        said += f" If it was under way, {_listed(again)} is run again."
    if in_doubt:
        said += (
            f" If it was under way, {_listed(in_doubt)} is not run again: it may have taken effect, so"
            " the saga is undone, that step too."
        )
    return said


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def usable_workers(source: SourceTraits, *, spread: bool = False) -> str:
    """Return how many workers the source can use, and why. `spread`: a pipeline has `partition_by`."""
    if spread:
        return "as many as there are: partition_by spreads events over them by key"
    if source.partitioned:
        return "as many as it has partitions: they are shared out between workers"
    return "1: it has a single partition"
