"""The columns of a CDC batch, made from its runs when something asks for them.

    raw, key, id, type, time …   lists over all runs; what is constant in a run is worked out once
    change                       operation, before, after: decoded, so only for who reads them

`data` is decoded from `raw` by the batch itself.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import blake2b
from math import floor
from struct import pack
from typing import Any

import orjson

from connectors.batch import Batch, Change, Column, Maker, derived
from connectors.errors import PermanentError
from connectors.postgres_cdc.incremental import Copy
from connectors.postgres_cdc.pgoutput import (
    ABSENT,
    HEADER,
    ProtocolError,
    Value,
    decode_row_change,
)
from connectors.postgres_cdc.position import SnapshotPosition, StreamPosition
from connectors.postgres_cdc.progress import Progress
from connectors.postgres_cdc.rows import KeyTexts
from connectors.postgres_cdc.runs import Counts, Run
from connectors.postgres_cdc.tables import Table


def rfc3339(seconds: float) -> str:
    """Return a time in UTC, with microseconds."""
    whole = floor(seconds)
    microseconds = round((seconds - whole) * 1_000_000)
    if microseconds == 1_000_000:
        whole, microseconds = whole + 1, 0
    return f"{_to_the_second(whole)}.{microseconds:06d}Z"


@lru_cache(100)
def _to_the_second(seconds: int) -> str:
    """Return a time without its fraction: transactions come by the thousand in one second."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass(frozen=True, slots=True)
class Shape:
    """What events of this source look like."""

    slot: str
    database: str
    include_before: bool
    include_after: bool
    type_of: Callable[[Mapping[str, Any]], str]
    """(schema, table, operation) → the event's type."""
    transaction: bool = False
    """Events carry their transaction's number."""


_ABOUT_NO_ROW = frozenset({"TRUNCATE", "MESSAGE", "ALTER", "BEGIN", "END"})
_IN_JSON = frozenset({"ALTER", "BEGIN", "END"})
"""Operations of runs whose messages are the events' data already."""
_NAMED_BY_US = frozenset({"MESSAGE", "BEGIN", "END"})
"""Operations of events that are of no table, whose types no template makes."""

Images = tuple[list[Value] | None, list[Value] | None]


def _images(run: Run, message: bytes) -> Images:
    """Return the row before and after one event, as much as is known of them."""
    if run.operation == "READ":
        return None, run.table.codec.split_line(message)
    if run.operation in _ABOUT_NO_ROW:
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
        self._opening = StreamPosition(generation, 0).text()[:5]
        self._source = f"/postgres/{shape.database}/{shape.slot}"
        self._types: dict[tuple[str, str], str] = {}
        self._plain = not (shape.include_before or shape.include_after)
        self.of_stream: Mapping[str, Maker] = {
            "raw": self._raw,
            "key": self._key,
            "subject": _subjects,
            "partition": lambda batch: [shape.slot] * batch.size,
            "position": self._position,
            "id": _stream_ids,
            "source": lambda batch: [self._source] * batch.size,
            "type": self._type,
            "time": _times,
            "timestamp": self._timestamp,
            "operation": _operations,
            "unchanged": _unchanged,
            "before_raw": self._before_raw,
            "after_raw": self._after_raw,
            "extensions": _extensions,
            "extensions.partitionkey": lambda batch: batch.column("key"),
            "extensions.sequence": _sequences,
            "extensions.operation": lambda batch: batch.column("operation"),
            "extensions.unchangedtoast": lambda batch: batch.column("unchanged"),
            "change": _changes,
        }
        """For a batch of changes."""
        if shape.transaction:
            self.of_stream = {
                **self.of_stream,
                "extensions": _extensions_with_transaction,
                "extensions.transactionid": _transactions,
            }
        self.of_snapshot: Mapping[str, Maker] = {
            **self.of_stream,
            "id": self._snapshot_ids,
            "extensions.sequence": self._snapshot_sequences,
        }
        """For a batch with rows of a snapshot in it: their ids and places are other ones."""

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
        if operation in _IN_JSON:
            return messages
        if operation == "MESSAGE":
            return [_content(message) for message in messages]
        if operation == "READ":
            rows = codec.encode_lines(messages, lambda line: codec.encode(codec.split_line(line)))
            return rows if self._plain else self._wrapped(rows)
        if operation == "INSERT" or (operation == "UPDATE" and self._plain):
            keys: KeyTexts = []
            rows = codec.encode_messages(messages, lambda each: self._after(run, each), keys)
            run.keys = keys
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
            if run.unchanged is None:
                run.unchanged = {}
            run.unchanged[id(message)] = codec.names(codec.absent(after))

    def _key(self, batch: Batch) -> Column:
        batch.column("raw")  # finds most keys on its way
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
        carried: Mapping[str, Any] | None = None
        tail = ""
        for run in batch.state:
            if run.progress is not None:
                out += self._snapshot_positions(run)
                continue
            if run.copy is not None:
                out += self._copy_positions(run, run.copy)
                continue
            if run.counted is not None:
                out += self._counted_positions(run, run.counted)
                continue
            if run.carried is not carried:
                carried = run.carried
                tail = StreamPosition(self._generation, 0, 0, dict(carried)).text()[30:]
            out += _numbered(f"{self._opening}{run.lsn:016X}/", run.ordinals, tail)
        return out

    def _snapshot_positions(self, run: Run) -> list[str]:
        assert run.progress is not None  # noqa: S101 - the caller looked
        progress, out = run.progress.copy(), []
        for line, number in zip(run.messages, run.ordinals, strict=True):
            advance(progress, run.table, run.lsn, [line])
            out.append(SnapshotPosition(self._generation - 1, number, progress.state()).text())
        return out

    def _copy_positions(self, run: Run, copy: Copy) -> list[str]:
        out = []
        for line, ordinal in zip(run.messages, run.ordinals, strict=True):
            copy = copy.advanced(run.table.text_key(line), 1)
            state = {**run.carried, "copy": copy.state()}
            out.append(StreamPosition(self._generation, run.lsn, ordinal, state).text())
        return out

    def _counted_positions(self, run: Run, counted: Counts) -> list[str]:
        """Return positions that say how many events of the transaction there have been.

        Those of a run differ in three numbers: the text around them is made once (0.5 us each, and not 2.8).
        """
        first, name = counted.plus(run, 1), run.table.name
        state = {"events": first.state(), **run.carried}
        text = StreamPosition(self._generation, run.lsn, run.ordinals[0], state).text()
        if len(run.ordinals) == 1:
            return [text]
        tables = {each: "%d" if each == name else str(n) for each, n in first.tables.items()}
        listed = [f"{_literal(each)}:{n}" for each, n in tables.items()]
        rest = f",{_literal(run.carried)[1:]}" if run.carried else "}"
        template = f'{text[:22]}%08X/{{"events":[%d,{{{",".join(listed)}}}]{rest}'
        numbers = enumerate(run.ordinals)
        events, of_table = first.events, first.tables[name]
        return [template % (ordinal, events + k, of_table + k) for k, ordinal in numbers]

    def _snapshot_ids(self, batch: Batch) -> Column:
        out: Column = []
        slot = self._shape.slot
        for run in batch.state:
            if run.operation != "READ":
                head = f"{slot}:{run.lsn:016X}:"
                out += [head + str(ordinal) for ordinal in run.ordinals]
                continue
            # Asked for anew, the same row is another event.
            number = f"{run.copy.id}:" if run.copy is not None and run.copy.id else ""
            head = f"{slot}:snapshot:{number}{run.table.name}:"
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

    @staticmethod
    def _snapshot_sequences(batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            # Rows of the initial snapshot sort before the changes that follow.
            initial = run.progress is not None
            head, width = ("0" * 16, 16) if initial else (f"{run.lsn:016X}", 8)
            out += [f"{head}/{ordinal:0{width}X}" for ordinal in run.ordinals]
        return out

    def _type(self, batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            at = (run.table.name, run.operation)
            found = self._types.get(at)
            if found is None and run.operation in _NAMED_BY_US:
                # Not remembered: some put a number into their messages' prefixes.
                found = f"{run.table.name}.{run.operation.lower()}"
            elif found is None:
                codec = run.table.codec
                found = self._types[at] = self._shape.type_of(
                    {"schema": codec.schema, "table": codec.table, "operation": run.operation}
                )
            out += [found] * len(run.messages)
        return out

    def _timestamp(self, batch: Batch) -> Column:
        out: Column = []
        for run in batch.state:
            out += [run.time] * len(run.messages)
        return out

    def _before_raw(self, batch: Batch) -> Column:
        return self._image_texts(batch, _before_text)

    def _after_raw(self, batch: Batch) -> Column:
        if self._plain and all(run.operation in _KEEPS_AFTER for run in batch.state):
            return batch.column("raw")
        return self._image_texts(batch, _after_text)

    @staticmethod
    def _image_texts(batch: Batch, text_of: Callable[[Run, bytes], bytes | None]) -> Column:
        out: Column = []
        for run in batch.state:
            if run.operation == "INSERT" and text_of is _before_text:
                out += [None] * len(run.messages)
                continue
            for message in run.messages:
                try:
                    out.append(text_of(run, message))
                except (ValueError, LookupError) as error:
                    batch.errors[len(out)] = _undecodable(run, error)
                    out.append(None)
        return out


_KEEPS_AFTER = frozenset({"READ", "INSERT", "UPDATE"})
"""Operations whose data is the image after them, where the data is the row alone."""

_NEW_ROW = b"N"


def _before_text(run: Run, message: bytes) -> bytes | None:
    if run.operation == "UPDATE" and message[HEADER + 5 : HEADER + 6] == _NEW_ROW:
        return None  # the server sent no old row: nothing to decode
    before, _ = _images(run, message)
    return None if before is None else run.table.codec.encode(before)


def _after_text(run: Run, message: bytes) -> bytes | None:
    _, after = _images(run, message)
    return None if after is None else run.table.codec.encode(after)


# --- columns made from columns: history keeps what they read, and calls them when somebody looks --


@derived("key")
def _subjects(batch: Batch) -> Column:
    return batch.column("key")


@derived("partition", "position")
def _stream_ids(batch: Batch) -> Column:
    runs: Sequence[Run] | None = batch.state
    if runs is not None:
        # What positions would tell, in a sixth of the time.
        slots = batch.column("partition")
        heads = [f"{slots[0]}:{run.lsn:016X}:" for run in runs]
        pairs = zip(heads, runs, strict=True)
        return [f"{head}{ordinal}" for head, run in pairs for ordinal in run.ordinals]
    places = zip(batch.column("partition"), batch.column("position"), strict=True)
    return [f"{slot}:{at[5:21]}:{int(at[22:30], 16)}" for slot, at in places]


@derived("position")
def _sequences(batch: Batch) -> Column:
    runs: Sequence[Run] | None = batch.state
    if runs is not None:
        out: Column = []
        for run in runs:
            out += _numbered(f"{run.lsn:016X}/", run.ordinals, "")
        return out
    return [at[5:30] for at in batch.column("position")]


@derived("timestamp")
def _times(batch: Batch) -> Column:
    times = batch.column("timestamp")
    texts = {at: rfc3339(at) for at in set(times)}
    return [texts[at] for at in times]


@derived("key", "extensions.sequence", "operation", "unchanged")
def _extensions(batch: Batch) -> Column:
    names = ("key", "extensions.sequence", "operation", "unchanged")
    rows = zip(*(batch.column(name) for name in names), strict=True)
    return [
        {"partitionkey": key, "sequence": sequence, "operation": operation}
        | ({} if unchanged is None else {"unchangedtoast": unchanged})
        for key, sequence, operation, unchanged in rows
    ]


@derived("key", "extensions.sequence", "operation", "unchanged", "extensions.transactionid")
def _extensions_with_transaction(batch: Batch) -> Column:
    rows = zip(_extensions(batch), batch.column("extensions.transactionid"), strict=True)
    return [row if xid is None else row | {"transactionid": xid} for row, xid in rows]


@derived("operation", "before_raw", "after_raw")
def _changes(batch: Batch) -> Column:
    """Return changes; an image that is the event's data shares its decoded value."""
    after_raw = batch.column("after_raw")
    if after_raw is batch.column("raw"):
        after = batch.column("data")
    else:
        after = [None if text is None else orjson.loads(text) for text in after_raw]
    rows = zip(batch.column("operation"), batch.column("before_raw"), after, strict=True)
    return [
        Change(operation, None if before is None else orjson.loads(before), image)
        for operation, before, image in rows
    ]


def _transactions(batch: Batch) -> Column:
    out: Column = []
    for run in batch.state:
        out += [str(run.xid) if run.xid else None] * len(run.messages)
    return out


def _numbered(head: str, ordinals: Sequence[int], tail: str) -> list[str]:
    """Return the ordinals in eight hexadecimal digits, between two texts that hold no line end.

    Many in one text, and cut: a third of the time of one by one.
    """
    if len(ordinals) < 2:
        return [f"{head}{ordinal:08X}{tail}" for ordinal in ordinals]
    digits = pack(f">{len(ordinals)}I", *ordinals).hex("\n", 4).upper()
    return (head + digits.replace("\n", f"{tail}\n{head}") + tail).split("\n")


def _literal(value: Any) -> str:
    """Return a value as JSON that a `%` template says as it is."""
    return orjson.dumps(value).decode().replace("%", "%%")


def _content(content: bytes) -> bytes:
    """Return a logical message's content as JSON."""
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    else:
        return content
    try:
        return orjson.dumps(content.decode())
    except UnicodeDecodeError:
        return orjson.dumps({"base64": b64encode(content).decode()})


def _operations(batch: Batch) -> Column:
    out: Column = []
    for run in batch.state:
        out += [run.operation] * len(run.messages)
    return out


def _unchanged(batch: Batch) -> Column:
    """Return the names of the TOAST columns that an event's data lacks, comma-separated, or None."""
    batch.column("raw")  # notes them
    if not any(run.unchanged for run in batch.state):
        return [None] * batch.size
    return [
        ",".join(names) if run.unchanged and (names := run.unchanged.get(id(message))) else None
        for run in batch.state
        for message in run.messages
    ]


def _only(run: Run, message: bytes) -> Run:
    """Return a run of one message, noting what it finds in the run it is of."""
    if run.unchanged is None:
        run.unchanged = {}
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
            if run.keys and None not in run.keys:
                return codec.keys_of(run.keys)
            return codec.message_keys(run.messages, slow)
        case "BEGIN" | "END":
            return [f"{codec.subject}/{run.xid}"]
        case _ if not codec.key or run.operation in _ABOUT_NO_ROW:
            return [codec.subject] * len(run.messages)
        case _:
            return [slow(message) for message in run.messages]


def snapshot_key(table: Table, line: bytes) -> tuple[str, ...] | None:
    """Return the key of a snapshot's row as positions keep it; None where it can't resume there."""
    return None if table.kinds is None else table.text_key(line)


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
