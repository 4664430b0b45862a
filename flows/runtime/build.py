"""Builds the Bytewax dataflow of one source: a branch per pipeline, an operator per step.

    input ─┬─ ingest ── step ── step ── settle ─┬─ output
           └─ ingest ── step ── settle ─────────┘

What flows is a Batch up to ingest and an Executions after it, one per epoch. Nothing raises
through an operator; publishing is a step, so the output only closes the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from connectors.batch import Batch
from flows.runtime.ingest import Ingest
from flows.runtime.intake import Intake, IntakeSource
from flows.runtime.settle import Settle
from flows.runtime.stepping import StepRunner
from transforms.executions import Executions


@dataclass(frozen=True, slots=True)
class Branch:
    """One pipeline's operators, in order."""

    name: str
    ingest: Ingest
    steps: Sequence[StepRunner]
    settle: Settle


def build_dataflow(name: str, intake: Intake, branches: Sequence[Branch]) -> Dataflow:
    """Return the dataflow of source `name`; step ids are `<pipeline>/<step>`."""
    flow = Dataflow(_id(name))
    batches = op.input("source", flow, IntakeSource(intake, name))
    ends = [_branch(batches, branch) for branch in branches]
    end = ends[0] if len(ends) == 1 else op.merge("settled", *ends)
    op.output("end", end, _End())
    return flow


def _branch(batches: Stream[Batch], branch: Branch) -> Stream[Any]:
    prefix = _id(branch.name)
    ingest = branch.ingest

    def begin(items: list[Batch]) -> list[Executions]:
        return [ingest(batch) for batch in items]

    stream = op.flat_map_batch(f"{prefix}/ingest", batches, begin)
    for runner in branch.steps:
        step_id = f"{prefix}/{runner.plan.number}-{_id(runner.plan.name)}"
        stream = op.flat_map_batch(step_id, stream, _pass_on(runner))
    return op.flat_map_batch(f"{prefix}/settle", stream, _swallow(branch.settle))


def _pass_on(call: Callable[[Executions], None]) -> Callable[[list[Executions]], list[Executions]]:
    def operator(items: list[Executions]) -> list[Executions]:
        for executions in items:
            call(executions)
        return items

    return operator


def _swallow(call: Callable[[Executions], None]) -> Callable[[list[Executions]], list[Any]]:
    def operator(items: list[Executions]) -> list[Any]:
        for executions in items:
            call(executions)
        return []

    return operator


def _id(name: str) -> str:
    """Return a Bytewax step id: it joins them with periods, so none may have one of its own."""
    return name.replace(".", "_")


class _EndPartition(StatelessSinkPartition[Any]):
    def write_batch(self, items: list[Any]) -> None:
        """Nothing reaches the end; its progress is what the epoch gate waits for."""


class _End(DynamicSink[Any]):
    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> _EndPartition:
        return _EndPartition()
