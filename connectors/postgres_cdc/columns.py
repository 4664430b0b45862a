"""The columns of a CDC batch, made from its runs when something asks for them.

    raw, key, id, type, time …   lists over all runs; what is constant in a run is worked out once
    change                       operation, before, after: decoded, so only for who reads them

`data` is decoded from `raw` by the batch itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any

import orjson

from connectors.batch import Batch, Change, Column, Maker
from connectors.errors import PermanentError
from connectors.postgres_cdc.assemble import Run
from connectors.postgres_cdc.pgoutput import ABSENT, ProtocolError, Value, decode_row_change
from connectors.postgres_cdc.position import SnapshotPosition, StreamPosition
from connectors.postgres_cdc.progress import Progress
from connectors.postgres_cdc.tables import Table


def rfc3339(seconds: float) -> str:
    """Return a time in UTC, with microseconds."""
    found = datetime.fromtimestamp(seconds, timezone.utc)
    return found.isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Shape:
    """What events of this source look like."""

    slot: str
    database: str
    include_before: bool
    include_after: bool
    type_of: Callable[[Mapping[str, Any]], str]
    """(schema, table, operation) → the event's type."""


Images = tuple[list[Value] | None, list[Value] | None]


def _images(run: Run, message: bytes) -> Images:
    """Return the row before and after one event, as much as is known of them."""
    if run.operation == "READ":
        return None, run.table.codec.split_line(message)
    if run.operation == "TRUNCATE":
        return None, None
    change = decode_row_change(message)
    before = None if run.operation == "INSERT" else run.table.old_of(change)
    after = None if run.operation == "DELETE" else run.table.new_of(change)
    return before, after


class Columns:
    """The makers of one reader's batches; `state` of each batch is its list of runs."""

    def __init__(self, shape: Shape, generation: int) -> None:
        self._shape = shape
        self._generation = generation
        self._source = f"/postgres/{shape.database}/{shape.slot}"
        self._types: dict[tuple[str, str], str] = {}
        self._plain = not (shape.include_before or shape.include_after)
        self.makers: Mapping[str, Maker] = {
            "raw": self._raw,
            "key": self._key,
            "subject": lambda batch: batch.column("key"),
            "partition": lambda batch: [shape.slot] * batch.size,
            "position": self._position,
            "id": self._id,
            "source": lambda batch: [self._source] * batch.size,
            "type": self._type,
            "time": self._time,
            "timestamp": self._timestamp,
            "extensions": self._extensions,
            "change": self._change,
        }

    def _raw(self, batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            first = len(out)
            try:
                out += self._encode(run)
            except (ValueError, LookupError):
                # One row is not what it should be: find it, let its neighbours pass.
                del out[first:]
                self._one_by_one(batch, run, out)
        return out

    def _one_by_one(self, batch: Batch, run: Run, out: Column) -> None:
        for message in run.messages:
            try:
                out += self._encode(_only(run, message))
            except (ValueError, LookupError) as error:
                batch.errors[len(out)] = _undecodable(run, error)
                out.append(None)

    def _encode(self, run: Run) -> Sequence[bytes | None]:
        """Return the data of a run's events as JSON text. Raises ValueError for a bad row."""
        codec, messages, operation = run.table.codec, run.messages, run.operation
        if operation == "TRUNCATE":
            return [None] * len(messages)
        if operation == "READ":
            rows = codec.encode_lines(messages, lambda line: codec.encode(codec.split_line(line)))
            return rows if self._plain else self._wrapped(rows)
        if operation == "INSERT" or (operation == "UPDATE" and self._plain):
            rows = codec.encode_messages(messages, lambda message: self._after(run, message))
            return rows if self._plain else self._wrapped(rows)
        return [self._both(run, message) for message in messages]

    def _wrapped(self, rows: Sequence[bytes]) -> list[bytes]:
        """Return rows that had no image before as `{before, after}`."""
        if not self._shape.include_after:
            return [b'{"before":null}'] * len(rows)
        head = b'{"before":null,"after":' if self._shape.include_before else b'{"after":'
        return [b"%b%b}" % (head, row) for row in rows]

    def _after(self, run: Run, message: bytes) -> bytes:
        _, after = _images(run, message)
        if after is None:
            raise ProtocolError("a change without the new row")
        self._note_unchanged(run, message, after)
        return run.table.codec.encode(after)

    def _both(self, run: Run, message: bytes) -> bytes:
        before, after = _images(run, message)
        codec = run.table.codec
        if after is not None:
            self._note_unchanged(run, message, after)
        if self._plain:
            return codec.encode(before if before is not None else after or [])
        parts = []
        for name, wanted, image in (
            (b"before", self._shape.include_before, before),
            (b"after", self._shape.include_after, after),
        ):
            if wanted:
                text = b"null" if image is None else codec.encode(image)
                parts.append(b'"%b":%b' % (name, text))
        return b"{%b}" % b",".join(parts)

    @staticmethod
    def _note_unchanged(run: Run, message: bytes, after: Sequence[Value]) -> None:
        if ABSENT in after:
            codec = run.table.codec
            run.unchanged[id(message)] = codec.names(codec.absent(after))

    def _key(self, batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            first = len(out)
            try:
                out += _keys(run)
            except (ValueError, LookupError):
                del out[first:]
                for message in run.messages:
                    try:
                        out += _keys(_only(run, message))
                    except (ValueError, LookupError) as error:
                        batch.errors[len(out)] = _undecodable(run, error)
                        out.append(run.table.codec.subject)
        return out

    def _position(self, batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            if run.progress is not None:
                out += self._snapshot_positions(run)
                continue
            state = {"read": run.read} if run.read else {}
            last = StreamPosition(self._generation, run.lsn, 0, state).text()
            head, tail = last[:22], last[30:]
            out += [f"{head}{ordinal:08X}{tail}" for ordinal in run.ordinals]
        return out

    def _snapshot_positions(self, run: Run) -> list[str]:
        assert run.progress is not None  # noqa: S101 - the caller looked
        progress, out = run.progress.copy(), []
        for line, number in zip(run.messages, run.ordinals, strict=True):
            advance(progress, run.table, run.lsn, [line])
            out.append(SnapshotPosition(self._generation - 1, number, progress.state()).text())
        return out

    def _id(self, batch: Batch) -> Column:
        out: Column = []
        slot = self._shape.slot
        for run in batch.state:
            if run.operation != "READ":
                head = f"{slot}:{run.lsn:016X}:"
                out += [head + str(ordinal) for ordinal in run.ordinals]
                continue
            head = f"{slot}:snapshot:{run.table.name}:"
            # A snapshot that is interrupted reads rows again, perhaps as they are by then: what
            # differs is another event, so what the row holds is part of its id.
            marks = [blake2b(line, digest_size=8).hexdigest() for line in run.messages]
            if run.table.codec.key:
                skip = len(run.table.codec.subject) + 1
                keys = batch.column("key")[len(out) : len(out) + len(run.messages)]
                out += [f"{head}{key[skip:]}:{mark}" for key, mark in zip(keys, marks, strict=True)]
            else:
                # The line ends with the row's place in the table's file: equal rows differ in it.
                out += [head + mark for mark in marks]
        return out

    def _type(self, batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            at = (run.table.name, run.operation)
            found = self._types.get(at)
            if found is None:
                codec = run.table.codec
                found = self._types[at] = self._shape.type_of(
                    {"schema": codec.schema, "table": codec.table, "operation": run.operation}
                )
            out += [found] * len(run.messages)
        return out

    def _time(self, batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            out += [rfc3339(run.time)] * len(run.messages)
        return out

    def _timestamp(self, batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            out += [run.time] * len(run.messages)
        return out

    def _extensions(self, batch: Batch) -> Column:
        keys = batch.column("key")
        batch.column("raw")  # notes the unchanged columns
        out: Column = []
        for run in batch.state:
            operation = run.operation
            # Rows of a snapshot sort before the changes that follow.
            head, width = ("0" * 16, 16) if operation == "READ" else (f"{run.lsn:016X}", 8)
            at = len(out)
            out += [
                {
                    "partitionkey": key,
                    "sequence": f"{head}/{ordinal:0{width}X}",
                    "operation": operation,
                }
                for key, ordinal in zip(
                    keys[at : at + len(run.messages)], run.ordinals, strict=True
                )
            ]
            if run.unchanged:
                for index, message in enumerate(run.messages):
                    names = run.unchanged.get(id(message))
                    if names:
                        out[at + index]["unchangedtoast"] = ",".join(names)
        return out

    def _change(self, batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            codec = run.table.codec
            for message in run.messages:
                try:
                    before, after = (
                        None if image is None else orjson.loads(codec.encode(image))
                        for image in _images(run, message)
                    )
                    out.append(Change(run.operation, before, after))
                except (ValueError, LookupError) as error:
                    batch.errors[len(out)] = _undecodable(run, error)
                    out.append(None)
        return out


def _only(run: Run, message: bytes) -> Run:
    """Return a run of one message, noting what it finds in the run it is of."""
    return Run(run.table, run.operation, [message], [0], run.lsn, run.time, unchanged=run.unchanged)


def _keys(run: Run) -> list[str]:
    """Return the keys of a run's events."""
    codec = run.table.codec

    def slow(message: bytes) -> str:
        before, after = _images(run, message)
        values = after if after is not None else before
        return codec.subject if values is None else codec.key_of(values)

    match run.operation:
        case "INSERT" | "UPDATE":
            return codec.message_keys(run.messages, slow)
        case _ if not codec.key or run.operation == "TRUNCATE":
            return [codec.subject] * len(run.messages)
        case _:
            return [slow(message) for message in run.messages]


def snapshot_key(table: Table, line: bytes) -> tuple[str, ...] | None:
    """Return the key of a snapshot's row as positions keep it; None where it can't resume there."""
    if table.kinds is None:
        return None
    return tuple(value.decode() for value in table.key_values(table.codec.split_line(line)))


def advance(progress: Progress, table: Table, lsn: int, lines: Sequence[bytes]) -> None:
    """Record that these rows, read at `lsn`, have gone out."""
    last = snapshot_key(table, lines[-1])
    if last is None:
        return
    keys: list[tuple[str, ...] | None] = []
    if progress.in_doubt(table.name):
        keys = [snapshot_key(table, line) for line in lines]
    progress.advance(table.name, lsn, last, [key for key in keys if key is not None])


def _undecodable(run: Run, error: Exception) -> PermanentError:
    return PermanentError(
        f"a row of {run.table.name} can't be decoded: {error}.",
        code="row_undecodable",
        hint="Text that isn't UTF-8 (a database in SQL_ASCII) has to be mended in the table.",
        table=run.table.name,
    )
