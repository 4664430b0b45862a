"""Builds the Bytewax dataflow of one source: a branch per pipeline, an operator per step.

    input ─┬─ ingest ── step ── step ── settle ─┬─ output
           └─ ingest ── step ── settle ─────────┘

What flows is a Batch up to ingest and an Executions after it, one per epoch; executions that were
parked come as they were, to their own branch alone. Nothing raises
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
from flows.runtime.branch import Branch
from flows.runtime.exchange import PULSE, Exchange, Splitter
from flows.runtime.intake import Intake, IntakeSource, Item
from transforms.executions import Executions
from transforms.expressions import Program


@dataclass(frozen=True, slots=True)
class Cluster:
    """This process's place in a cluster, for pipelines that are spread over it by key."""

    process: int
    of: int


def build_dataflow(
    name: str, intake: Intake | None, branches: Sequence[Branch], cluster: Cluster | None = None
) -> Dataflow:
    """Return the dataflow of source `name`; step ids are `<pipeline>/<step>`.

    In a cluster every process builds the same graph, with one operator for all steps of a pipeline;
    one without an `intake` only takes part in the exchanges.
    """
    flow = Dataflow(_id(name))
    part = f"{name}/{cluster.process if cluster else 0:04}"
    batches = op.input("source", flow, IntakeSource(intake, part))
    ends = []
    for branch in branches:
        stream = _ingest(batches, branch)
        if cluster is not None and branch.partition_by is not None:
            _exchange(batches, stream, branch, branch.partition_by, cluster)
        elif cluster is not None:
            name = f"{_id(branch.name)}/run"
            ends.append(op.flat_map_batch(name, stream, _swallow(branch.run_here)))
        else:
            ends.append(_steps(stream, branch))
    if ends:
        op.output("end", ends[0] if len(ends) == 1 else op.merge("settled", *ends), _End())
    return flow


def _ingest(batches: Stream[Item], branch: Branch) -> Stream[Executions]:
    ingest, name, tally = branch.ingest, branch.name, branch.settle.tally

    def begin(items: list[Item]) -> list[Executions]:
        begun = []
        for item in items:
            if isinstance(item, Batch):
                begun.append(ingest(item))
            elif isinstance(item, Executions) and item.pipeline == name:  # what was parked
                begun.append(item)
        tally.active = sum(each.events.size - len(each.ended) for each in begun)
        return begun

    return op.flat_map_batch(f"{_id(branch.name)}/ingest", batches, begin)


def _exchange(
    batches: Stream[Item],
    stream: Stream[Executions],
    branch: Branch,
    program: Program,
    cluster: Cluster,
) -> None:
    prefix = _id(branch.name)
    splitter = Splitter(
        program, cluster.process, cluster.of, with_arrivals=branch.settle.copies_letters
    )

    def split(items: list[Executions]) -> list[tuple[str, Executions | bytes]]:
        return [part for executions in items for part in splitter(executions)]

    def pulses(items: list[Item]) -> list[tuple[str, Executions | bytes]]:
        beats = sum(isinstance(item, bytes) for item in items)
        return [(str(process), PULSE) for process in range(cluster.of)] if beats else []

    parts = op.flat_map_batch(f"{prefix}/split", stream, split)
    beats = op.flat_map_batch(f"{prefix}/pulse", batches, pulses)
    both = op.merge(f"{prefix}/parts", parts, beats)
    op.output(f"{prefix}/exchange", both, Exchange(cluster.process, branch.run))


def _steps(stream: Stream[Executions], branch: Branch) -> Stream[Any]:
    prefix = _id(branch.name)
    if branch.once is not None:
        stream = op.flat_map_batch(f"{prefix}/once-per-key", stream, _pass_on(branch.once))
    if branch.sagas is not None:
        stream = op.flat_map_batch(f"{prefix}/sagas", stream, _pass_on(branch.sagas.take_up))
    for runner in branch.steps:
        step_id = f"{prefix}/{runner.plan.number}-{_id(runner.plan.name)}"
        stream = op.flat_map_batch(step_id, stream, _pass_on(runner))
    if branch.compensation is not None:
        undo = _pass_on(branch.compensation)
        stream = op.flat_map_batch(f"{prefix}/compensate", stream, undo)
    return op.flat_map_batch(f"{prefix}/settle", stream, _swallow(branch.settle))


def _pass_on(
    call: Callable[[Executions], object],
) -> Callable[[list[Executions]], list[Executions]]:
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
