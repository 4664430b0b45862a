"""Spreads a pipeline over the processes of a Bytewax cluster, by key (`partition_by`).

    process 0:  input ── ingest ── split ──┬── exchange ── steps ── settle      (its own keys)
    process 1:                             └── exchange ── steps ── settle

What crosses is one encoded sub-batch per process, not events. The exchange is a Bytewax output
with one partition per process: an output holds the epoch open until it has written, cluster-wide
(tests/flows/runtime/test_epoch_gate.py), so steps and settle run inside it and are durable before
the process that read the batch may checkpoint it. All events of one key go to the same process, and
batch follows batch, so their order is kept.

A process settles what it was sent in a transaction of its own, before the source's position is
stored. So that a crash between the two repeats nothing, it stores how far it has come in the same
transaction (`Marks`), and leaves out what comes again; another number of processes leaves it out too
(`settled_before.py`). What a process keeps for itself is settled together with the source's position,
or with what it is sent before that: pipelines may share a sink, and its state is of all of them. So
each pipeline of a cluster has marks, also one that is not spread.

What waits, waits behind the exchange, in the process that its key belongs to. Only processes that
read have an input, so those send a pulse through the exchange a few times a second: at each, a
process goes on with what is due there (`spread.py`).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from zlib import crc32

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.batch import Batch, Column, Position, is_of_another
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

PULSE: Final = b""
"""The part with which a process is told to go on with what is due there."""


def share_of(value: object, of: int) -> int:
    """Return which of so many processes has the executions with this value of `partition_by`."""
    return crc32(str(value).encode()) % of


class Splitter:
    """Splits a batch's executions by key, one part per process; `own` keeps those that ended."""

    def __init__(self, program: Program, own: int, of: int, *, with_arrivals: bool = False) -> None:
        """`with_arrivals`: the messages cross, too, for copies of the pipeline's dead letters."""
        self._carried = (*CARRIED, "arrival") if with_arrivals else CARRIED
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
                parts.setdefault(share_of(value, self._of), []).append(index)
        if executions.ended:
            parts[self._own] = sorted([*parts.get(self._own, []), *executions.ended])
        return [
            (str(turn), self._part(executions, chosen, own=turn == self._own))
            for turn, chosen in parts.items()
        ]

    def _part(self, executions: Executions, chosen: list[int], *, own: bool) -> Executions | bytes:
        names = [*self._carried, "wire"] if own else self._carried
        part = _picked(executions, chosen, names, executions.events.after)
        if own:
            return part
        events = part.events
        sent = (events.columns, events.after, part.keys, part.started, part.base_meta)
        return pickle.dumps((part.pipeline, *sent), 5)


def _picked(
    executions: Executions,
    chosen: Sequence[int],
    names: Iterable[str],
    after: Mapping[str, Position],
) -> Executions:
    """Return some executions that have not gone through a step yet, with these columns of their events."""
    events, keys, ended = executions.events, executions.keys, executions.ended
    columns: dict[str, Column] = {
        name: [column[index] for index in chosen]
        for name in names
        for column in [events.column(name)]
    }
    return Executions(
        events=Batch(len(chosen), columns, after=dict(after)),
        pipeline=executions.pipeline,
        started=executions.started,
        base_meta=executions.base_meta,
        keys=None if keys is None else [keys[index] for index in chosen],
        ended={place: ended[index] for place, index in enumerate(chosen) if index in ended},
    )


class OpenMarks:
    """How far a share had been settled before a crash, of the partitions where that comes again.

    What comes again lies behind the source's checkpoint (`begins`). A source that begins before
    it has gone back on purpose, as one does whose topic was made anew: its positions mean other
    events now, and the partition's mark means nothing any more. Where checkpoints say what the
    partition is (`connectors.batch.is_of_another`), that tells it, whatever is read of it first.
    """

    def __init__(self, positions: Mapping[str, Position], begins: Mapping[str, Position]) -> None:
        self._begins = {
            partition: begin
            for partition, begin in begins.items()
            if not is_of_another(begin, positions.get(partition, ""))
        }
        self._marks = {
            partition: at
            for partition, at in positions.items()
            if at > self._begins.get(partition, "")
        }

    def __bool__(self) -> bool:
        return bool(self._marks)

    def covering(self, partition: str, at: Position) -> Position | None:
        """Return the mark if what is at `at` was settled before; a mark that it does not cover is forgotten."""
        mark = self._marks.get(partition)
        if mark is None or self._begins.get(partition, "") < at <= mark:
            return mark
        del self._marks[partition]
        return None

    def forget_others(self, after: Mapping[str, Position]) -> None:
        """Forget the marks of partitions that were made anew."""
        for partition, at in after.items():
            if is_of_another(self._marks.get(partition, ""), at):
                del self._marks[partition]


class Marks:
    """How far this process has settled its share of a pipeline's keys, per source partition.

    Valid only for the process's own share of the keys: its `owner` name in the state store has
    the number of processes and the key's expression in it (`settled_before.share_name`).
    """

    def __init__(
        self, owner: str, positions: Mapping[str, Position], begins: Mapping[str, Position]
    ) -> None:
        self.owner = owner
        self.unsaved: dict[str, Position] = {}
        """Source partition → how far this process has settled its share, where that is not stored yet."""
        self._before = OpenMarks(positions, begins)

    def received(self, part: bytes) -> Executions:
        """Return a part that another process sent, without what was settled here before."""
        # Our own process wrote it: the cluster's sockets are bound to 127.0.0.1.
        pipeline, columns, after, keys, started, meta = pickle.loads(part)  # noqa: S301
        if self._before:
            self._before.forget_others(after)
            fresh = self._fresh(columns["partition"], columns["position"])
            columns = {name: [column[k] for k in fresh] for name, column in columns.items()}
            keys = None if keys is None else [keys[k] for k in fresh]
            after = {partition: self._furthest(partition, at) for partition, at in after.items()}
        return Executions(
            events=Batch(len(columns["raw"]), columns, after=after),
            pipeline=pipeline,
            keys=keys,
            started=started,
            base_meta=meta,
        )

    def fresh(self, own: Executions) -> Executions:
        """Return our own part without what was settled here before.

        That may be, where each process reads some of the partitions: what another sends is stored
        at once, and with it what of our own is in the same files.
        """
        if not self._before:
            return own
        events = own.events
        self._before.forget_others(events.after)
        chosen = self._fresh(events.column("partition"), events.column("position"))
        after = {partition: self._furthest(partition, at) for partition, at in events.after.items()}
        return _picked(own, chosen, events.columns, after)

    def passed(self, after: Mapping[str, Position]) -> None:
        """Remember how far we are with what is settled next: no less far than before a crash."""
        self._before.forget_others(after)
        for partition, at in after.items():
            self.unsaved[partition] = self._furthest(partition, at)

    def take(self) -> dict[str, Position]:
        """Return what is not stored yet, to be stored now."""
        taken, self.unsaved = self.unsaved, {}
        return taken

    def checkpointed(self, partitions: Iterable[str]) -> None:
        """Forget how far we are in these: what is stored next is stored behind their checkpoint."""
        for partition in partitions:
            self.unsaved.pop(partition, None)

    def _furthest(self, partition: str, at: Position) -> Position:
        """Return how far we are once a batch up to `at` is settled: a repeat is behind our mark."""
        return self._before.covering(partition, at) or at

    def _fresh(self, partitions: Column, positions: Column) -> list[int]:
        """Return the places of what was not settled before; forget the marks that are passed."""
        return [
            place
            for place, (partition, at) in enumerate(zip(partitions, positions, strict=True))
            if self._before.covering(partition, at) is None
        ]


class Exchange(FixedPartitionedSink[Any, None]):
    """The output through which parts cross; `run` takes each through steps and settle."""

    def __init__(self, own: int, run: Callable[[Executions | bytes], None]) -> None:
        self._own = own
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
    def __init__(self, run: Callable[[Executions | bytes], None]) -> None:
        self._run = run

    def write_batch(self, values: Iterable[Executions | bytes]) -> None:
        for value in values:
            self._run(value)

    def snapshot(self) -> None:
        """Bytewax stores nothing (no RecoveryConfig)."""
