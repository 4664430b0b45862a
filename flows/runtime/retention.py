"""What the state store may forget, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from flows.archive.compacting import compact
from flows.spec.pipelines import DeadLetters

if TYPE_CHECKING:
    from flows.plan import FlowPlan, SourcePlan
    from flows.state.contracts import StateStore

log = structlog.get_logger("penstock.worker")

COPIES_FORGOTTEN: Final = "dead_letter_copies_forgotten"
"""The code of a warning: no error's, for the dead letters themselves are kept as long as they are to be."""


def pruner(plan: FlowPlan) -> Callable[[StateStore], None]:
    """Return a function that deletes dead letters, their copies, history and archived events past their retention.

    Of what is left of archives, it puts small chunks together.
    """

    def prune(store: StateStore) -> None:
        now = time.time()
        history = plan.history
        store.prune(
            plan.name,
            dead_letters_before={
                pipeline.name: now - pipeline.dead_letter.retention
                for pipeline in plan.pipelines
                if pipeline.dead_letter.retention
            },
            history_before=now - history.retention if history.retention else None,
            history_max_bytes=history.max_size,
        )
        for source in plan.sources:
            if source.archive is not None:
                store.archive.forget(
                    plan.name,
                    source.name,
                    before=now - source.archive.retention if source.archive.retention else None,
                    max_bytes=source.archive.max_size,
                )
                compact(
                    store.archive,
                    plan.name,
                    source.name,
                    retention=source.archive.retention,
                    now=now,
                )
        _forget_copies(plan, store, now)

    return prune


PART_OF_SIZE = 20
"""A worker prunes when it has recorded this part of `history.max_size`, or of an archive's: so far they may be
exceeded."""


def recorded_at_most(plan: FlowPlan) -> float:
    """Return the bytes of history after which a worker looks whether there is too much."""
    size = plan.history.max_size
    return float("inf") if size is None else size / PART_OF_SIZE


def archived_at_most(source: SourcePlan) -> float:
    """Return the bytes of archived events after which a worker looks whether there are too many."""
    size = None if source.archive is None else source.archive.max_size
    return float("inf") if size is None else size / PART_OF_SIZE


def sink_of_copies(plan: FlowPlan, pipeline: str) -> str | None:
    """Return the sink that copies of a pipeline's dead letters go to; None where nobody hands them over."""
    for source in plan.sources:
        for each in source.pipelines:
            if each.name == pipeline:
                return each.dead_letter.sink
    return None


def retention_of_copies(plan: FlowPlan, pipeline: str) -> float:
    """Return for how many seconds copies are kept that have no sink any more; 0 for always.

    It is that of the pipeline's dead letters; of a pipeline that is gone too, the default.
    """
    found = next((each for each in plan.pipelines if each.name == pipeline), None)
    return (DeadLetters() if found is None else found.dead_letter).retention


def _forget_copies(plan: FlowPlan, store: StateStore, now: float) -> None:
    """Forget copies that can't be delivered, since the flow names no sink for them any more."""
    for pipeline in store.copies.counts(plan.name):
        retention = retention_of_copies(plan, pipeline)
        if sink_of_copies(plan, pipeline) is not None or not retention:
            continue
        forgotten = store.copies.drop(plan.name, pipeline, now - retention)
        if forgotten:
            log.warning(
                "copies of dead letters are forgotten: the flow no longer names a sink for them",
                code=COPIES_FORGOTTEN,
                flow=plan.name,
                pipeline=pipeline,
                copies=forgotten,
                hint="They had waited for longer than dead_letter.retention. `penstock state show FLOW.yaml`"
                " tells what waits still; naming a dead_letter.sink again delivers that.",
            )
