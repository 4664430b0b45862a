"""What a request that waits for its pipelines is told: outcomes, and what `step.json_response` made.

Only sources with `respond: settled` have anything here. It is stored with the settlement, so a request
is never told of an outcome that a crash could take back, and the process that has the request may be
another one than the worker's, on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from flows.state.jsontext import json_text
from flows.state.records import Answered
from transforms.executions import UNSET, Executions

if TYPE_CHECKING:
    from flows.plan import PipelinePlan, SourcePlan

ANSWERING = "step.json_response"


def answering_steps(source: SourcePlan, pipeline: PipelinePlan) -> Sequence[str] | None:
    """Return the steps that say what is answered, last first; None where nobody waits."""
    if getattr(source.settings, "respond", None) != "settled":
        return None
    steps = [step.name for step in pipeline.everything_run() if step.type == ANSWERING]
    return steps[::-1]


def answers_of(executions: Executions, source: str, steps: Sequence[str]) -> Iterator[Answered]:
    """Yield what came of the events of a batch that have ended; of what is parked, nothing yet."""
    positions = executions.events.column("position")
    columns = [executions.outputs[name] for name in steps if name in executions.outputs]
    for index, position in enumerate(positions):
        ended = executions.ended.get(index)
        if index in executions.replays or not position.isdigit():
            continue
        outcome: Literal["done", "failed", "skipped"] = "done"
        if ended is not None:
            if ended.outcome == "parked":
                continue
            outcome = "failed" if ended.outcome == "failed" else "skipped"
        answer = None
        if outcome == "done":
            answer = next((c[index] for c in columns if c[index] is not UNSET), None)
        text = None if answer is None else json_text(answer).decode()
        yield Answered(source, int(position), executions.pipeline, outcome, text)
