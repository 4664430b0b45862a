r"""History: a settled batch's executions in one compressed body, and back.

    zstd( header "\n" bytes "\n" bytes … ) zstd( bytes "\n" … ) …

The header is one line of JSON: what is the same for all, the event columns, the outputs, the few
executions that failed or were skipped. Behind it stand the events' data and the outputs that were
encoded already, byte for byte as they were; their lengths are in the header. So building costs a
join and no object per event, data that is not JSON is kept like any other, and no digit of a
number is lost. `zstd -dc` shows it. A body is as many frames as it has pieces of a size that the
allocator always has at hand: one buffer for all of a batch would be mapped anew each time.

Measured on orders of 400 bytes with one output of 135, per event: 0.9 us, most of it zstd level 1.
Its negative levels save 0.2 us and give bodies 1.7 times as long, which the disk then costs.

Of the event columns a body holds those that can't be made from others: see `derived` in
connectors.batch. A source's column without that mark is made here, if nothing has asked for it.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import orjson
import zstandard

from connectors.batch import Batch, Change, Column, Maker
from connectors.errors import PenstockError, PermanentError
from flows.state.copies import unpack_arrival
from flows.state.errors import error_of, error_row
from flows.state.jsontext import json_text
from flows.state.records import Settlement
from flows.state.tries import NONE
from transforms.executions import UNSET, Duplicate, Ended, Executions

T = TypeVar("T")

LEVEL, WINDOW = 1, 18
"""Of zstd. A window of 2**18 bytes takes a tenth less than the level's own, and bodies are as long."""

PIECE = 128 << 10
"""Bytes of a body that are compressed together, more or less; a window holds them."""

VERSION = 1

ATTRIBUTES = (
    "id",
    "source",
    "type",
    "subject",
    "time",
    "timestamp",
    "datacontenttype",
    "dataschema",
    "extensions",
    "key",
    "partition",
    "position",
)

NOT_RECORDED = {"not_triggered", "parked", "undone", "repeated"}

_PLAIN, _PLAIN_HEADER = "plain", b'{"plain":true,'
"""The first key of a header that orjson could write."""

_local = threading.local()
"""A compressor each thread: its context is costly to make and not for two at once."""


@dataclass(frozen=True, slots=True)
class ChunkView:
    """A chunk's executions, as they were settled; index k is the k-th that was recorded.

    `executions.events` has everything but `wire`, so contexts, ids and events are made from it as
    they were then.
    """

    executions: Executions
    indexes: Sequence[int]
    """Where each was in its batch: those not triggered are left out, or all that did not fail."""
    tries: Mapping[int, str]
    """Of those that had waited and failed before: flows.state.tries."""
    put_out: Callable[[int], dict[str, Any]]
    """Returns step → output of one of them: of a body that was decoded without outputs."""
    redacted: Collection[int] = ()
    """Those of which something was masked before it was recorded."""


# --- encoding ---------------------------------------------------------------------------------


def chunk_pieces(
    executions: Executions,
    *,
    meta: Mapping[str, Any],
    only_failed: bool = False,
    with_undone: bool = True,
    redacted: Collection[int] = (),
) -> list[bytes]:
    """Return a chunk's body before `compress`, in pieces: of all executions that have ended, or that failed.

    `redacted`: those of which something was masked before. `with_undone`: with the compensations of
    failed sagas. Never raises for what a step put out: a value that is not JSON is kept as its text.
    """
    chosen = _chosen(executions, only_failed)
    batch = executions.events
    columns, makers = columns_of(batch)
    raws = batch.column("raw")
    places: Sequence[int] | dict[int, int] = range(batch.size)
    if chosen is not None:
        places = {index: place for place, index in enumerate(chosen)}
    sections: list[list[int]] = []
    parts: list[bytes] = []

    def keep(values: Column) -> int:
        lengths, values = measured(values)
        sections.append(lengths)
        parts.extend(values)
        return len(sections) - 1

    first = keep(_of(raws, chosen))
    kept: dict[str, Any] = {}
    for name, column in columns.items():
        values = _of(column, chosen)
        if column is raws:
            kept[name] = {"section": first}
        elif isinstance(next((v for v in values if v is not None), None), bytes):
            kept[name] = {"section": keep(values)}
        else:
            kept[name] = collapsed(name, values)
    outputs: dict[str, Column | None] = {}
    encoded_in: dict[str, int] = {}
    for name, column in executions.outputs.items():
        encoded = executions.encoded.get(name)
        if encoded is None or len(encoded) != batch.size:
            outputs[name] = _of(column, chosen)
        else:
            outputs[name] = None
            encoded_in[name] = keep(_of(_completed(encoded, column), chosen))
    header = {
        "version": VERSION,
        "size": len(places),
        "indexes": chosen,
        "pipeline": executions.pipeline,
        "started": executions.started,
        "meta": dict(meta),
        "columns": kept,
        "derived": makers,
        "keys": None if executions.keys is None else _of(executions.keys, chosen),
        "outputs": outputs,
        "encoded": encoded_in,
        "details": {name: _of(column, chosen) for name, column in executions.details.items()},
        "ended": [
            (places[index], ended.outcome, ended.step, error_row(ended.error))
            for index, ended in _within(executions.ended, places)
        ],
        "passed_over": {
            step: [(places[k], error_row(e)) for k, e in _within(errors, places)]
            for step, errors in executions.passed_over.items()
            if errors
        },
        "errors": [(places[k], error_row(e)) for k, e in _within(batch.errors, places)],
        "runs": [(places[k], run) for k, run in _within(executions.runs, places)],
        "sections": sections,
    }
    header |= _times(executions, places)
    if executions.duplicates:
        header["duplicates"] = [
            (places[k], each.original, each.result)
            for k, each in executions.duplicates.items()
            if k in places
        ]
    if redacted:
        header["redacted"] = [places[k] for k in redacted if k in places]
    if executions.undone and with_undone:
        header["undone"] = [(places[k], v) for k, v in _within(executions.undone, places)]
    return in_pieces(header_text(header), parts)


def in_pieces(header: bytes, parts: list[bytes]) -> list[bytes]:
    """Return a body before it is compressed, in pieces of about `PIECE` bytes."""
    lines = [header, *parts]
    count = len(lines) * PIECE // sum(map(len, lines)) or 1
    return [b"\n".join([*lines[at : at + count], b""]) for at in range(0, len(lines), count)]


def times_of_steps(executions: Executions) -> dict[str, Any]:
    """Return when the batch's steps began and what they took."""
    if not executions.took:
        return {}
    return {
        "took": {
            step: (round(began, 6), round(seconds, 6))
            for step, (began, seconds) in executions.took.items()
        }
    }


def _times(executions: Executions, places: Sequence[int] | Mapping[int, int]) -> dict[str, Any]:
    """Return when steps began and what they took; of those that had waited, their own times and tries."""
    found = times_of_steps(executions)
    if executions.took_before:
        found["took_before"] = [(places[k], v) for k, v in _within(executions.took_before, places)]
    if executions.starts:
        found["starts"] = [(places[k], at) for k, at in _within(executions.starts, places)]
    tried = {k: v.tries for k, v in executions.resumed.items() if v.tries != NONE}
    if tried:
        found["tries"] = [(places[k], v) for k, v in _within(tried, places)]
    return found


def _within(
    found: Mapping[int, T], places: Sequence[int] | Mapping[int, int]
) -> list[tuple[int, T]]:
    """Return (index, what is found) of the executions that are recorded."""
    if isinstance(places, Mapping) and len(places) < len(found):
        return [(index, found[index]) for index in places if index in found]
    return [(index, each) for index, each in found.items() if index in places]


def _chosen(executions: Executions, only_failed: bool) -> list[int] | None:
    """Return the indexes to record, in order; None for all."""
    ended = executions.ended
    if only_failed:
        return sorted(index for index, end in ended.items() if end.outcome == "failed")
    left_out = {index for index, end in ended.items() if end.outcome in NOT_RECORDED}
    if not left_out:
        return None
    return [index for index in range(executions.events.size) if index not in left_out]


def _of(column: Sequence[Any], chosen: list[int] | None) -> Column:
    if chosen is None:
        return column if isinstance(column, list) else list(column)
    return [column[index] for index in chosen]


def columns_of(batch: Batch) -> tuple[dict[str, Column], dict[str, str]]:
    """Return the columns to keep, and for those that can be made from them the makers' names.

    A column that neither the source nor anybody else has touched is the default's: not kept.
    """
    kept: dict[str, Column] = {}
    makers: dict[str, str] = {}
    wanted = [*ATTRIBUTES, "change"]
    for name in wanted:  # grows while it is walked
        if name in kept or name in makers or name in {"raw", "data"}:
            continue
        maker = batch.makers.get(name)
        reads = getattr(maker, "reads", None)
        if maker is not None and reads is not None:
            makers[name] = f"{maker.__module__}:{maker.__qualname__}"
            wanted.extend(reads)
        elif maker is not None or name in batch.columns:
            column = batch.column(name)
            if name != "change":
                kept[name] = column
            elif any(column):
                kept |= _change_columns(column, batch)
    return kept, makers


def _change_columns(changes: Column, batch: Batch) -> dict[str, Column]:
    """Return changes as columns; `after` only where it is not the event's data itself."""
    columns = {
        "change.operation": [None if c is None else c.operation for c in changes],
        "change.before": [None if c is None else c.before for c in changes],
    }
    data = batch.columns.get("data")
    if data is None or not all(c and c.after is d for c, d in zip(changes, data, strict=True)):
        columns["change.after"] = [None if c is None else c.after for c in changes]
    return columns


def collapsed(name: str, column: Column) -> dict[str, Any]:
    """Return a column, or the one value that it has everywhere."""
    if not column:
        return {"each": column}
    if name == "extensions":  # {"a": 1} == {"a": True}, so equality says too little
        return {"each": column} if any(column) else {"all": {}}
    first = column[0]
    if first is None or isinstance(first, str):
        return {"all": first} if column.count(first) == len(column) else {"each": column}
    return {"each": column}


def measured(values: Column) -> tuple[list[int], Column]:
    """Return lengths, -1 for None, and the values without a None."""
    try:
        return list(map(len, values)), values
    except TypeError:
        lengths = [-1 if value is None else len(value) for value in values]
        return lengths, [b"" if value is None else value for value in values]


def _completed(encoded: Sequence[bytes | None], column: Column) -> Sequence[bytes | None]:
    """Return the encoded outputs, those that no step has encoded among them."""
    if all(encoded):  # no JSON is empty
        return encoded
    return [
        json_text(value) if text is None and value is not UNSET else text
        for text, value in zip(encoded, column, strict=True)
    ]


def header_text(header: dict[str, Any]) -> bytes:
    """Return the header as JSON; notes in it what orjson does not know, or that there is nothing such."""
    try:
        return orjson.dumps({_PLAIN: True, **header})
    except TypeError:
        pass
    # A step that did not run for all, or a value that orjson does not know. The first is common.
    unset: dict[str, list[int]] = {}
    for group in ("outputs", "details"):
        for name, column in header[group].items():
            missing = [k for k, value in enumerate(column or ()) if value is UNSET]
            if missing:
                header[group][name] = [None if value is UNSET else value for value in column]
                if group == "outputs":
                    unset[name] = missing
    header["unset"] = unset
    return json_text(header)


def compress_history(settlement: Settlement) -> None:
    """Give what a settlement records its body, where it has only the pieces of it."""
    if settlement.history is not None and settlement.history_pieces:
        body = compress(settlement.history_pieces)
        settlement.history = replace(settlement.history, body=body)
        settlement.history_pieces = []


def compress(pieces: Sequence[bytes]) -> bytes:
    """Return the pieces compressed one by one, by a compressor of the thread's own."""
    compressor: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            LEVEL, window_log=WINDOW, write_checksum=True
        )
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
        _local.compressor = compressor
    return b"".join(map(compressor.compress, pieces))


# --- decoding ---------------------------------------------------------------------------------


def decompress(body: bytes) -> bytes:
    """Return the text of a body, however many pieces it is made of. Raises ZstdError."""
    decompressor = zstandard.ZstdDecompressor()
    pieces = []
    while body:
        piece = decompressor.decompressobj()
        pieces.append(piece.decompress(body))
        if not piece.eof:  # its data may all be there, but not its checksum
            raise zstandard.ZstdError("it ends in the middle of a piece")
        body = piece.unused_data
    return b"".join(pieces)


def decode_chunk(body: bytes, *, with_outputs: bool = True) -> ChunkView:
    """Return the executions of a body. Raises PermanentError `history_unreadable`.

    Without outputs it takes half the time; `ChunkView.put_out` has those of one execution.
    """
    try:
        return _decode(body, with_outputs=with_outputs)
    except PenstockError:
        raise
    except Exception as error:
        # Whatever a damaged body makes the decoder trip over, it means this.
        raise _unreadable(f"{type(error).__name__}: {error}") from error


def _decode(body: bytes, *, with_outputs: bool) -> ChunkView:
    text = body
    if body[:1] != b"{":  # one that is no longer than a compressor is worth its while
        text = decompress(body)
    end = text.index(b"\n")
    # What orjson wrote it reads as it was, in half the time; other headers hold, say, longer integers.
    loads = orjson.loads if text.startswith(_PLAIN_HEADER) else json.loads
    header: dict[str, Any] = loads(text[:end])
    if header["version"] != VERSION:
        raise _unreadable(f"it has version {header['version']}, this program knows {VERSION}")
    size: int = header["size"]
    sections: list[Column] = []
    at = end + 1
    for lengths in header["sections"]:
        values: Column = []
        for length in lengths:
            values.append(None if length < 0 else text[at : at + length])
            at += max(length, 0) + 1
        sections.append(values)
    if sections and at != len(text):
        raise _unreadable(f"its sections end at {at}, it ends at {len(text)}")
    encoded = {name: sections[number] for name, number in header["encoded"].items()}
    unset = {name: set(places) for name, places in header.get("unset", {}).items()}

    def put_out(name: str, place: int) -> Any:
        column = header["outputs"][name]
        if column is None:
            text = encoded[name][place]
            return UNSET if text is None else json.loads(text)
        return UNSET if place in unset.get(name, ()) else column[place]

    def put_out_by(place: int) -> dict[str, Any]:
        return {name: put_out(name, place) for name in header["outputs"]}

    outputs: dict[str, Column] = {}
    if with_outputs:
        outputs = {
            name: [put_out(name, place) for place in range(size)] for name in header["outputs"]
        }
    executions = Executions(
        events=_batch(header, size, sections),
        pipeline=header["pipeline"],
        outputs=outputs,
        details=header["details"],
        encoded=dict(encoded),
        ended={
            place: Ended(outcome, step, error_of(error))
            for place, outcome, step, error in header["ended"]
        },
        passed_over={
            step: {place: error_of(error) for place, error in rows}
            for step, rows in header["passed_over"].items()
        },
        started=header["started"],
        starts=dict(header.get("starts", ())),
        took={step: (began, seconds) for step, (began, seconds) in header.get("took", {}).items()},
        took_before={
            place: {step: (began, seconds) for step, (began, seconds) in each.items()}
            for place, each in header.get("took_before", ())
        },
        keys=header["keys"],
        base_meta=header["meta"],
        duplicates={
            place: Duplicate(original, result)
            for place, original, result in header.get("duplicates", ())
        },
        undone=dict(header.get("undone", ())),
        runs=dict(header.get("runs", ())),
    )
    tries = dict(header.get("tries", ()))
    return ChunkView(
        executions,
        header["indexes"] or range(size),
        tries,
        put_out_by,
        frozenset(header.get("redacted", ())),
    )


def _batch(header: dict[str, Any], size: int, sections: list[Column]) -> Batch:
    columns: dict[str, Column] = {"raw": sections[0]}
    for name, kept in header["columns"].items():
        match kept:
            case {"each": each}:
                columns[name] = each
            case {"all": value}:
                columns[name] = [value] * size
            case _:
                columns[name] = sections[kept["section"]]
    makers = {name: _maker(reference) for name, reference in header["derived"].items()}
    batch = Batch(size, columns, after={}, makers=makers)
    operations = columns.pop("change.operation", None)
    if operations is not None:
        before = columns.pop("change.before")
        after = columns.pop("change.after", None) or batch.column("data")
        columns["change"] = [
            None if row[0] is None else Change(*row)
            for row in zip(operations, before, after, strict=True)
        ]
    for place, error in header["errors"]:
        found = error_of(error)
        if isinstance(found, PermanentError):
            batch.errors[place] = found
    if "arrival" in columns:
        columns["arrival"] = list(map(unpack_arrival, columns["arrival"]))
    return batch


@cache
def _maker(reference: str) -> Maker:
    """Return the maker that a source marked as `derived`; nothing else is called by its name."""
    module, _, name = reference.partition(":")
    maker: Maker | None = getattr(importlib.import_module(module), name, None)
    if maker is None or not hasattr(maker, "reads"):
        raise _unreadable(f"this program no longer has {reference}, which made one of its columns")
    return maker


def _unreadable(why: str) -> PermanentError:
    return PermanentError(
        f"this piece of history can't be read: {why}.",
        code="history_unreadable",
        hint="It is damaged, or was written by another version of penstock.",
    )
