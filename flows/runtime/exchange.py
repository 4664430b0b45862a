"""Spreads a pipeline over the processes of a Bytewax cluster, by key (`partition_by`).

    process 0:  input ── ingest ── split ──┬── exchange ── steps ── settle      (its own keys)
    process 1:                             └── exchange ── steps ── settle

What crosses is one encoded sub-batch per process, not events. The exchange is a Bytewax output
with one partition per process: an output holds the epoch open until it has written, cluster-wide
(tests/flows/runtime/test_epoch_gate.py), so steps and settle run inside it and are durable before
the process that read the batch may checkpoint it. All events of one key go to the same process, and
batch follows batch, so their order is kept.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any
from zlib import crc32

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.batch import Batch, Column
from transforms.executions import Ended, Executions
from transforms.expressions import Program

CARRIED = (
    "raw",
    "key",
    "partition",
    "position",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "timestamp",
    "datacontenttype",
    "dataschema",
    "extensions",
    "change",
)
"""The columns that cross; `data` is decoded again over there, where there is a core for it."""


class Splitter:
    """Splits a batch's executions by key, one part per process; `own` keeps those that ended."""

    def __init__(self, program: Program, own: int, of: int) -> None:
        self._program = program
        self._own = own
        self._of = of

    def __call__(self, executions: Executions) -> list[tuple[str, Executions | bytes]]:
        """Return (process, part) for each process that has any of the batch."""
        indexes = executions.going(0)
        values, errors = self._program.column(executions, indexes)
        parts: dict[int, list[int]] = {}
        for index, value in zip(indexes, values, strict=True):
            if index in errors:
                executions.end(index, Ended("failed", None, errors[index]))
            else:
                turn = crc32(str(value).encode()) % self._of
                parts.setdefault(turn, []).append(index)
        if executions.ended:
            parts[self._own] = sorted([*parts.get(self._own, []), *executions.ended])
        return [
            (str(turn), self._part(executions, chosen, own=turn == self._own))
            for turn, chosen in parts.items()
        ]

    def _part(self, executions: Executions, chosen: list[int], *, own: bool) -> Executions | bytes:
        events = executions.events
        names = [*CARRIED, "wire"] if own else CARRIED
        columns: dict[str, Column] = {
            name: [column[index] for index in chosen]
            for name in names
            for column in [events.column(name)]
        }
        keys = executions.keys
        part = Executions(
            events=Batch(len(chosen), columns, after={}),
            pipeline=executions.pipeline,
            started=executions.started,
            base_meta=executions.base_meta,
            keys=None if keys is None else [keys[index] for index in chosen],
        )
        if own:
            places = {index: place for place, index in enumerate(chosen)}
            part.ended = {places[index]: end for index, end in executions.ended.items()}
            return part
        return pickle.dumps((part.pipeline, columns, part.keys, part.started, part.base_meta), 5)


def received(part: Executions | bytes) -> Executions:
    """Return a part's executions on the process it was sent to."""
    if isinstance(part, Executions):
        return part
    # Our own process wrote it: the cluster's sockets are bound to 127.0.0.1.
    pipeline, columns, keys, started, meta = pickle.loads(part)  # noqa: S301
    size = len(columns["raw"])
    return Executions(
        events=Batch(size, columns, after={}),
        pipeline=pipeline,
        keys=keys,
        started=started,
        base_meta=meta,
    )


class Exchange(FixedPartitionedSink[Any, None]):
    """The output through which parts cross; `run` takes them through steps and settle."""

    def __init__(self, own: int, of: int, run: Callable[[Executions], None]) -> None:
        self._own = own
        self._of = of
        self._run = run

    def list_parts(self) -> list[str]:
        """Return this process's part: listing it here alone is what routes it here."""
        return [f"{self._own:04}"]

    def part_fn(self, item_key: str) -> int:
        """Return the place of a process among the parts, which sort by their names."""
        return int(item_key)

    def build_part(self, _step_id: str, _for_part: str, _resume_state: None) -> _Part:
        """Return the part that runs what comes here."""
        return _Part(self._run)


class _Part(StatefulSinkPartition[Any, None]):
    def __init__(self, run: Callable[[Executions], None]) -> None:
        self._run = run

    def write_batch(self, values: Iterable[Executions | bytes]) -> None:
        for value in values:
            self._run(received(value))

    def snapshot(self) -> None:
        """Bytewax stores nothing (no RecoveryConfig)."""
