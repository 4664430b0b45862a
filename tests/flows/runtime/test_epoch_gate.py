"""What the checkpoint stands on: when Bytewax 0.21.1 asks a source for its next batch."""

from __future__ import annotations

import time
from datetime import timedelta

import bytewax.operators as op
from bytewax._bytewax import run_main
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition


class _Partition(StatefulSourcePartition):
    def __init__(self, batches, done, violations):
        self.batches, self.done, self.violations = iter(batches), done, violations
        self.emitted, self.sealed = 0, 0

    def next_batch(self):
        if self.done != list(range(1, self.sealed + 1)):
            self.violations.append((self.sealed, list(self.done)))
        item = next(self.batches)
        if item is None:
            return []
        self.emitted = item
        return [item]

    def snapshot(self):
        self.sealed = self.emitted


class _Source(FixedPartitionedSource):
    def __init__(self, partition):
        self.partition = partition

    def list_parts(self):
        return ["0"]

    def build_part(self, step_id, for_part, resume_state):
        return self.partition


class _Sink(DynamicSink):
    def __init__(self, write):
        self.write = write

    def build(self, step_id, worker_index, worker_count):
        part = StatelessSinkPartition.__new__(_Part)
        part.write = self.write
        return part


class _Part(StatelessSinkPartition):
    def write_batch(self, items):
        for item in items:
            self.write(item)


def _run(batches, slow):
    done, violations = [], []
    partition = _Partition(batches, done, violations)
    flow = Dataflow("gate")
    stream = op.input("in", flow, _Source(partition))
    fast = op.map("fast", stream, lambda item: item)
    late = op.map("late", stream, lambda item: (time.sleep(slow), item)[1])

    def settle(items):
        done.extend(items)
        return []

    settled = op.flat_map_batch("settle", late, settle)
    op.output("out", op.merge("ends", fast, settled), _Sink(lambda item: None))
    run_main(flow, epoch_interval=timedelta(0))
    return done, violations, partition


def test_the_batch_before_a_snapshot_is_through_every_branch_when_the_next_is_asked_for():
    done, violations, _ = _run(range(1, 200), slow=0.001)
    assert violations == []
    assert done == list(range(1, 200))


def test_an_idle_source_does_not_loosen_the_gate():
    batches = [1, None, None, 2, None, 3, 4, None]
    done, violations, _ = _run(batches, slow=0.002)
    assert violations == []
    assert done == [1, 2, 3, 4]


def test_every_batch_is_its_own_epoch_and_the_last_is_sealed_at_the_end():
    _, _, partition = _run(range(1, 10), slow=0)
    assert partition.sealed == 9
