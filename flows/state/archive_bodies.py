"""Archived events: a batch as its source handed it over in one compressed body, and back.

The body is laid out as one of history's (flows.state.history), without executions. It keeps what the
source gave: the data's bytes, the attributes or what they are derived from, key, partition, position and
time, and of what could not be decoded the bytes that arrived and the error.

A digest covers the body and the columns that chunks are found by: were one of those damaged, events
would be missing from a window and nobody would know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from hashlib import blake2b
from typing import Any

from connectors.batch import Batch, Column
from connectors.errors import PermanentError
from flows.state.copies import pack_arrival
from flows.state.errors import error_row
from flows.state.history import (
    VERSION,
    collapsed,
    columns_of,
    compress,
    decode_chunk,
    header_text,
    in_pieces,
    measured,
)
from flows.state.records import ArchiveChunk
from flows.state.rows import storable

MOST_TYPES = 50
"""Types that a chunk is found by; of one with more, readers look inside."""

_WITHOUT_EXECUTIONS: dict[str, Any] = {
    "version": VERSION,
    "indexes": None,
    "pipeline": "",
    "started": 0.0,
    "meta": {},
    "keys": None,
    "outputs": {},
    "encoded": {},
    "details": {},
    "ended": [],
    "passed_over": {},
    "runs": [],
}


@dataclass(frozen=True, slots=True)
class Part:
    """What one batch has brought, in a chunk that several were put together to."""

    id: int
    """The number of the chunk that it was."""
    count: int
    archived_at: float


@dataclass(frozen=True, slots=True)
class HeldBatch:
    """What is archived of a batch, made on the thread that the batch belongs to.

    Nothing of the source's own is asked for after that, so another thread can encode it.
    """

    size: int
    weight: int
    raws: Column
    columns: dict[str, Column]
    makers: dict[str, str]
    partitions: Column
    types: Column
    times: Column
    errors: Mapping[int, PermanentError]


def hold(batch: Batch, *, with_arrivals: bool = False) -> HeldBatch:
    """Return what is archived of a batch.

    `with_arrivals`: with the messages that its events arrived as, for copies of dead letters.
    """
    raws, partitions, types = (batch.column(name) for name in ("raw", "partition", "type"))
    times = batch.column("timestamp")
    columns, makers = columns_of(batch)
    if "wire" in batch.columns or "wire" in batch.makers:
        wires = batch.column("wire")
        if any(wire is not None for wire in wires):
            columns["wire"] = wires
    if with_arrivals or "arrival" in batch.columns:
        arrivals = batch.column("arrival")
        if any(arrival is not None for arrival in arrivals):
            columns["arrival"] = list(map(pack_arrival, arrivals))
    errors = dict(batch.errors)
    return HeldBatch(
        batch.size, batch.weight, raws, columns, makers, partitions, types, times, errors
    )


def archive_chunk(
    held: HeldBatch, source: str, now: float, parts: Sequence[Part] = ()
) -> ArchiveChunk:
    """Return a batch as a chunk of the archive of `source`; `now` is in seconds since the epoch.

    `parts`: the chunks that it was, where it was several.
    """
    try:
        first, last = min(held.times), max(held.times)
    except TypeError:  # some have none
        known = [now, *(at for at in held.times if at is not None)]
        first, last = min(known), max(known)
    types = {each for each in held.types if each is not None}
    chunk = ArchiveChunk(
        source=source,
        first_time=float(first),
        last_time=float(last),
        archived_at=now,
        count=held.size,
        partitions=json.dumps(sorted(set(held.partitions))),
        types=storable("\n".join(sorted(types))) if len(types) <= MOST_TYPES else None,
        digest=b"",
        body=_body(held, parts),
    )
    return replace(chunk, digest=digest_of(chunk))


def digest_of(chunk: ArchiveChunk) -> bytes:
    """Return the digest that the chunk must have."""
    found: tuple[Any, ...] = (
        chunk.source,
        chunk.first_time,
        chunk.last_time,
        chunk.archived_at,
        chunk.count,
        chunk.partitions,
        chunk.types,
    )
    if chunk.first_id is not None:
        found = (*found, chunk.first_id)
    digest = blake2b(repr(found).encode(), digest_size=16)
    digest.update(chunk.body)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Archived:
    """What is read of a body."""

    batch: Batch
    """The events, with the columns that their source had given."""
    parts: tuple[Part, ...]
    """The chunks that they were, where they were several."""


def events_of(body: bytes) -> Archived:
    """Return the events of a body. Raises PermanentError `history_unreadable`."""
    found = decode_chunk(body).executions
    parts = tuple(Part(*part) for part in found.base_meta.get("parts", ()))
    return Archived(found.events, parts)


def _body(held: HeldBatch, put_together: Sequence[Part]) -> bytes:
    sections: list[list[int]] = []
    parts: list[bytes] = []

    def keep(values: Column) -> int:
        lengths, values = measured(values)
        sections.append(lengths)
        parts.extend(values)
        return len(sections) - 1

    first = keep(held.raws)
    kept: dict[str, Any] = {}
    for name, column in held.columns.items():
        if column is held.raws:
            kept[name] = {"section": first}
        elif isinstance(next((v for v in column if v is not None), None), bytes):
            kept[name] = {"section": keep(column)}
        else:
            kept[name] = collapsed(name, column)
    header = {
        **_WITHOUT_EXECUTIONS,
        "size": held.size,
        "columns": kept,
        "derived": held.makers,
        "errors": [(index, error_row(error)) for index, error in held.errors.items()],
        "sections": sections,
    }
    if put_together:
        header["meta"] = {"parts": [astuple(part) for part in put_together]}
    return compress(in_pieces(header_text(header), parts))
