"""How many dead letters wait, and the warning when they become too many."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from flows.plan import FlowPlan, PipelinePlan
    from flows.state.contracts import StateStore

log = structlog.get_logger("penstock.worker")

WAITING = "dead_letters_waiting"
"""The code of the warning: no error's, for nothing has failed by it."""

LOOK_EVERY = 5.0
"""Seconds between two counts, at the least."""

_SHARE = 0.01
"""Part of a thread's time that counting may take: it costs 0.2 s when there are a million."""


class DeadLetterDepths:
    """Counts the dead letters of pipelines; `look` belongs to the committer's thread."""

    def __init__(self, plan: FlowPlan, pipelines: Sequence[PipelinePlan]) -> None:
        """Without `pipelines` nothing is counted."""
        self.found: dict[str, int] = {}
        """Pipeline → dead letters at the last count; read by the reporter."""
        self._flow = plan.name
        self._thresholds = {
            pipeline.name: pipeline.dead_letter.alert_threshold for pipeline in pipelines
        }
        self._above: set[str] = set()
        self._next = 0.0

    def look(self, store: StateStore) -> None:
        """Count if it is time, and warn of a pipeline whose dead letters have passed its threshold.

        Once: again only after they were no more than that. Raises as reading the store does.
        """
        began = time.monotonic()
        if began < self._next or not self._thresholds:
            return
        counted = store.letters.depths(self._flow)
        took = time.monotonic() - began
        self._next = began + max(LOOK_EVERY, took / _SHARE)
        self.found = {name: counted.get(name, 0) for name in self._thresholds}
        for name, threshold in self._thresholds.items():
            depth = self.found[name]
            if threshold is None or depth <= threshold:
                self._above.discard(name)
            elif name not in self._above:
                self._above.add(name)
                log.warning(
                    "more dead letters than alert_threshold",
                    code=WAITING,
                    flow=self._flow,
                    pipeline=name,
                    dead_letters=depth,
                    alert_threshold=threshold,
                    hint=f"What fails, and since when: penstock dlq stats --pipeline {name} FLOW.yaml",
                )
