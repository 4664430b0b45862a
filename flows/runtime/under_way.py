"""What a worker's steps are at just now, for whoever has to say what it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flows.runtime.branch import Branch


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A step that runs."""

    pipeline: str
    step: str
    """Its place in the pipeline."""
    sink: str | None
    """What it delivers to."""
    events: int

    def __str__(self) -> str:
        to = f" (sink {self.sink})" if self.sink else ""
        some = "an event" if self.events == 1 else f"{self.events} events"
        return f"step {self.step}{to} of pipeline {self.pipeline} with {some}"


def under_way(branches: Iterable[Branch]) -> list[UnderWay]:
    """Return the innermost steps that run; from any thread."""
    return [
        UnderWay(
            branch.name,
            runner.plan.place_in_pipeline,
            runner.plan.settings.sink if runner.plan.type == "step.publish" else None,
            runner.running,
        )
        for branch in branches
        for runner in branch.under_way()
    ]


def told(found: Sequence[UnderWay]) -> dict[str, Any]:
    """Return the first of these as the fields of a log line."""
    if not found:
        return {}
    first = found[0]
    fields = {"pipeline": first.pipeline, "step": first.step, "events": first.events}
    return fields | ({"sink": first.sink} if first.sink else {})
