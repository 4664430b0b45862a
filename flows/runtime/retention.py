"""What the state store may forget, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.plan import FlowPlan
    from flows.state.contracts import StateStore


def pruner(plan: FlowPlan) -> Callable[[StateStore], None]:
    """Return a function that deletes dead letters and history past their retention."""

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

    return prune
