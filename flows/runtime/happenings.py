"""What steps do just now, for those who watch; while nobody does, a step asks that and no more.

It is told on the dataflow's thread, step by step, for some executions of a batch: as many as a person can
follow. What became of all of them is recorded, and told from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from flows.plan import PipelinePlan, StepPlan
from flows.runtime.tenants import tenants
from transforms.executions import Executions
from transforms.expressions import compile_jq

Happening = tuple[str, dict[str, Any]]
"""A kind of event, such as `step.started`, and what it says: no data of the execution's."""

AT_ONCE, EACH = 25, 0.25
"""Executions that are told of at the most, by a worker, in so many seconds."""


class Happenings:
    """A worker's: steps add, the reporter takes."""

    def __init__(self) -> None:
        self.on = False
        """Whether anybody watches; the reporter sets it."""
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something to take."""
        self._found: deque[Happening] = deque()
        self._pipelines: list[PipelineHappenings] = []
        self._since, self._left = 0.0, AT_ONCE

    def of(self, pipeline: PipelinePlan, source_type: str) -> PipelineHappenings:
        """Return what the steps of a pipeline tell."""
        self._pipelines.append(PipelineHappenings(self, pipeline, source_type))
        return self._pipelines[-1]

    def turn(self, *, on: bool) -> None:
        """Begin, or stop and forget what was not taken."""
        self.on = on
        if not on:
            self._found.clear()
            for pipeline in self._pipelines:
                pipeline.forget()

    def add(self, found: Sequence[Happening]) -> None:
        """Tell something."""
        if found:
            self._found.extend(found)
            self.wake()

    def take(self) -> list[Happening]:
        """Return what was told since the last time."""
        return [self._found.popleft() for _ in range(len(self._found))]

    def admitted(self, count: int) -> int:
        """Return how many of so many more executions may be told of."""
        now = time.monotonic()
        if now - self._since >= EACH:
            self._since, self._left = now, AT_ONCE
        allowed = min(count, self._left)
        self._left -= allowed
        return allowed


class PipelineHappenings:
    """One pipeline's."""

    def __init__(self, all_: Happenings, pipeline: PipelinePlan, source_type: str) -> None:
        self.all = all_
        self._pipeline = pipeline.name
        self._source_type = source_type
        self._tenant = compile_jq(pipeline.tenant) if pipeline.tenant else None
        self._of: Executions | None = None
        self._ids: dict[int, str] = {}

    def forget(self) -> None:
        """Let go of the batch."""
        self._of = None

    def begins(self, step: StepPlan, executions: Executions, indexes: Sequence[int]) -> None:
        """Tell that a step begins with these of a batch."""
        found: list[Happening] = []
        if executions is not self._of:
            found += self._chosen(executions, indexes)
        about = {"step": step.name, "type": step.type}
        found += [
            ("step.started", {"execution_id": self._ids[index], **about})
            for index in self._among(indexes)
        ]
        self.all.add(found)

    def ends(
        self, step: StepPlan, executions: Executions, indexes: Sequence[int], seconds: float
    ) -> None:
        """Tell that a step is through with them; of what waits to be tried again, nothing."""
        if executions is not self._of:
            return
        duration = round(seconds * 1000, 3)
        passed_over = executions.passed_over.get(step.name, {})
        found: list[Happening] = []
        for index in self._among(indexes):
            ended = executions.ended.get(index)
            about = {"execution_id": self._ids[index], "step": step.name, "duration_ms": duration}
            error = passed_over.get(index) if ended is None else ended.error
            if ended is not None and ended.outcome == "parked":
                continue
            if error is not None:
                found.append(("step.failed", {**about, "error": error.code}))
            else:
                found.append(("step.completed", {**about, "status": "completed"}))
        self.all.add(found)

    def _chosen(self, executions: Executions, indexes: Sequence[int]) -> list[Happening]:
        """Choose some of a batch to tell of from now on; tell that they have begun."""
        some = list(indexes[: self.all.admitted(len(indexes))])
        self._of, self._ids = executions, dict(zip(some, executions.ids_of(some), strict=True))
        if not some:
            return []
        whose = tenants(self._tenant, executions, some)
        return [
            (
                "execution.started",
                {
                    "execution_id": self._ids[index],
                    "pipeline": self._pipeline,
                    "tenant": tenant,
                    "trigger": self._source_type,
                },
            )
            for index, tenant in zip(some, whose, strict=True)
        ]

    def _among(self, indexes: Sequence[int]) -> list[int]:
        going = indexes if isinstance(indexes, range) else set(indexes)
        return [index for index in self._ids if index in going]
