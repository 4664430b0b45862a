"""Records to rows and back; and the cursor that pages through dead letters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import ceil, log2
from operator import attrgetter
from typing import Any

from connectors.batch import Position
from connectors.contracts import Lag
from connectors.errors import FlowFileError
from flows.state.records import Counts, DeadLetter, HistoryChunk, Parked, ParkedPlace

Row = dict[str, Any]

PLACE_FIELDS = tuple(field.name for field in fields(ParkedPlace))
PARKED_FIELDS = tuple(field.name for field in fields(Parked))[1:]
LETTER_FIELDS = tuple(field.name for field in fields(DeadLetter))
_CHUNK_FIELDS = tuple(field.name for field in fields(HistoryChunk))
CHUNK_COLUMNS = (*_CHUNK_FIELDS, "bytes", "span")
"""Those that a history chunk is stored with; its id is the database's."""
_place_values = attrgetter(*PLACE_FIELDS)
_parked_values = attrgetter(*PARKED_FIELDS)
_letter_values = attrgetter(*LETTER_FIELDS)
_chunk_values = attrgetter(*_CHUNK_FIELDS)


def letter_row(letter: DeadLetter) -> Row:
    """Return the row of a dead letter."""
    row = dict(zip(LETTER_FIELDS, _letter_values(letter), strict=True))
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = storable(value)
    return row


def replayed_letter_row(letter: DeadLetter) -> Row:
    """Return the row of a dead letter that a replay has failed: it waits again."""
    return letter_row(letter) | {"status": "waiting", "replay": None, "replays": 1}


def letter_of(values: Sequence[Any]) -> DeadLetter:
    """Return the dead letter of a row whose columns are LETTER_FIELDS."""
    row = dict(zip(LETTER_FIELDS, values, strict=True))
    if row["wire"] is not None:
        row["wire"] = bytes(row["wire"])
    return DeadLetter(**row)


def chunk_row(chunk: HistoryChunk) -> Row:
    """Return the row of a history chunk."""
    row = dict(zip(_CHUNK_FIELDS, _chunk_values(chunk), strict=True))
    row["bytes"] = len(chunk.body)
    row["span"] = span_of(chunk.last_time - chunk.first_time)
    for name in ("errors", "types"):
        if row[name] is not None:
            row[name] = storable(row[name])
    return row


def span_of(seconds: float) -> int:
    """Return the smallest n with `seconds` <= 2**n, at least 0."""
    return max(0, ceil(log2(seconds))) if seconds > 1 else 0


def parked_row(flow: str, parked: Parked) -> Row:
    """Return the row of a parked execution."""
    row = dict(zip(PLACE_FIELDS, _place_values(parked.place), strict=True))
    row.update(zip(PARKED_FIELDS, _parked_values(parked), strict=True))
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = storable(value)
    row["flow"] = flow
    return row


def parked_of(values: Sequence[Any]) -> Parked:
    """Return the parked execution of a row whose columns are PLACE_FIELDS and PARKED_FIELDS."""
    count = len(PLACE_FIELDS)
    row = dict(zip(PARKED_FIELDS, values[count:], strict=True))
    row["body"] = bytes(row["body"])
    return Parked(ParkedPlace(*values[:count]), **row)


def checkpoint_row(
    flow: str, source: str, place: tuple[str, Position], *, lag: Lag, now: float
) -> Row:
    """Return the row of a checkpoint; `place` is a partition and the position in it."""
    partition, position = place
    return {
        "flow": flow,
        "source": source,
        "partition": partition,
        "position": position,
        "lag_events": lag.events,
        "lag_bytes": lag.bytes,
        "lag_seconds": lag.seconds,
        "updated_at": now,
    }


def totals_row(flow: str, shard: str, pipeline: str, counts: Counts) -> Row:
    """Return what is added to a pipeline's totals."""
    return {
        "flow": flow,
        "shard": shard,
        "pipeline": pipeline,
        "done": counts.done,
        "failed": counts.failed,
        "skipped": counts.skipped,
    }


def sink_state_row(flow: str, writer: str, sink: str, state: Mapping[str, str]) -> Row:
    """Return the row of what a sink keeps."""
    return {"flow": flow, "writer": writer, "sink": sink, "state": json.dumps(dict(state))}


def cursor(letter: DeadLetter) -> str:
    """Return what `dead_letters(after=…)` takes to go on behind this entry."""
    return f"{letter.last_failed_at!r},{letter.id}"


def read_cursor(text: str) -> tuple[float, str]:
    """Return time and id of a cursor. Raises FlowFileError `cursor_unknown`."""
    at, _, letter = text.partition(",")
    try:
        return float(at), letter
    except ValueError:
        raise FlowFileError(
            f"this is not a cursor of a list of dead letters: {text[:80]!r}.",
            code="cursor_unknown",
            hint="Pass on the cursor that the page before gave, as it is.",
        ) from None


def storable(text: str) -> str:
    """Return the text as both databases can hold it: PostgreSQL no NUL, neither a lone surrogate.

    Only an id or a message can have them; in JSON text they are escaped.
    """
    if text.isascii():
        return text.replace("\x00", "\u2400")
    return (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\u2400")
    )
