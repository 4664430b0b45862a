"""The recorded executions of the events at hand, found batch by batch.

History has a chunk per settled batch, and so has the past that is read: in the same order, each chunk
is needed for a batch or two and then no more. A few are kept decoded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.batch import Batch
from flows.state.chunk_store import ChunkRow
from flows.state.contracts import StateStore
from flows.state.history import ChunkView, decode_chunk

_KEPT = 16
"""Chunks that are kept decoded: some MB each."""

_TOGETHER = 8
"""Chunks that are read at once."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of history, and where in it the execution of each event is."""

    version: str
    view: ChunkView
    places: Mapping[Key, int]


Original = tuple[Chunk, int]


@dataclass(slots=True)
class Originals:
    """The recorded executions of one pipeline."""

    store: StateStore
    flow: str
    pipeline: str
    _kept: OrderedDict[int, Chunk] = field(default_factory=OrderedDict)

    def of(self, batch: Batch) -> list[Original | None]:
        """Return the recorded execution per event: the last one that is no replay; None without one.

        Raises PenstockError: PermanentError `history_unreadable` for a damaged chunk.
        """
        found: list[Original | None] = [None] * batch.size
        times = [at for at in batch.column("timestamp") if at is not None]
        if not times:
            return found
        rows = self.store.chunks.around(self.flow, min(times), max(times))
        rows = [row for row in rows if row.pipeline == self.pipeline]
        missing = dict(
            zip(
                zip(batch.column("source"), batch.column("id"), strict=True),
                range(batch.size),
                strict=True,
            )
        )
        for start in range(0, len(rows), _TOGETHER):
            for chunk in self._chunks(rows[start : start + _TOGETHER]):
                for key in missing.keys() & chunk.places.keys():
                    found[missing.pop(key)] = chunk, chunk.places[key]
            if not missing:
                break
        return found

    def _chunks(self, rows: list[ChunkRow]) -> list[Chunk]:
        """Return the chunks, those that were recorded last first."""
        kept = self._kept
        unknown = [row.id for row in rows if row.id not in kept]
        bodies = self.store.chunks.bodies(unknown) if unknown else {}
        found = []
        for row in rows:
            chunk = kept.get(row.id)
            if chunk is None:
                body = bodies.get(row.id)
                if body is None:
                    continue  # it has been pruned since
                chunk = kept[row.id] = _decoded(row, body)
            kept.move_to_end(row.id)
            found.append(chunk)
        while len(kept) > _KEPT:
            kept.popitem(last=False)
        return found


def _decoded(row: ChunkRow, body: bytes) -> Chunk:
    view = decode_chunk(body)
    events, runs = view.executions.events, view.executions.runs
    rows: Any = zip(events.column("source"), events.column("id"), strict=True)
    places: dict[Key, int] = {key: place for place, key in enumerate(rows) if place not in runs}
    return Chunk(row.flow_version, view, places)
