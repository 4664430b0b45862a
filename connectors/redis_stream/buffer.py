"""What was read and not handed over yet: a bounded queue between the fetcher and the dataflow."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.progress import Progress
from connectors.redis_stream.entries import EntryId

Entries = list[tuple[EntryId, list[bytes]]]
"""Of one stream: id, and field, value, field, value, …"""

READ_AHEAD = 4000
"""Entries that wait to be handed over, at the most: four batches."""

READ_AHEAD_BYTES = 32 * 1024 * 1024

_BATCH_BYTES = 4 * 1024 * 1024
"""What a batch may weigh: large entries come in smaller batches."""


@dataclass(slots=True)
class Stream:
    """One stream as this reader reads it."""

    name: str
    partition: str
    progress: Progress
    settled: frozenset[EntryId] = frozenset()
    """Settled before this reader was opened, by any worker, and perhaps not acknowledged."""
    known: EntryId | None = None
    """The last entry that is known to be settled or on its way."""
    end: EntryId | None = None
    """Read until here and no further; None: for ever."""
    ended: bool = False
    waiting: int = 0
    """Entries in the buffer."""
    behind: int | None = None
    """Entries not read yet by the group, as the server told last."""
    read_time: float | None = None
    """When the last entry that was handed over was added, seconds since the epoch."""


@dataclass(slots=True)
class Chunk:
    """Entries of one stream that were read at once."""

    stream: Stream
    entries: Entries
    weight: int
    read_at: float


class Buffer:
    """The queue. `put` is the fetcher's, `take` the dataflow's."""

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._taken: Sequence[Chunk] = ()
        self._count = 0
        self._weight = 0
        self._closed = False
        self.changed = threading.Condition()

    def put(self, stream: Stream, entries: Entries) -> int:
        """Add entries; return what they weigh."""
        weight = sum([sum(map(len, fields)) for _, fields in entries])
        with self.changed:
            self._chunks.append(Chunk(stream, entries, weight, time.monotonic()))
            self._count += len(entries)
            self._weight += weight
            stream.waiting += len(entries)
            self.changed.notify_all()
        return weight

    def take(self, limit: int, timeout: float) -> Sequence[Chunk]:
        """Return what is there, at most `limit` entries; waits for a first one, or a `wake`.

        They are `held` here until the next call: by then they are noted as handed over.
        """
        with self.changed:
            if not self._chunks and timeout > 0 and not self._closed:
                self.changed.wait(timeout)
            taken: list[Chunk] = []
            weight = 0
            while self._chunks and limit > 0 and weight < _BATCH_BYTES:
                chunk = self._chunks[0]
                size = len(chunk.entries)
                most = max(1, (_BATCH_BYTES - weight) * size // (chunk.weight + 1))
                most = min(limit, most)
                if size <= most:
                    self._chunks.popleft()
                else:
                    part = chunk.weight * most // size
                    rest = Chunk(
                        chunk.stream, chunk.entries[most:], chunk.weight - part, chunk.read_at
                    )
                    chunk = Chunk(chunk.stream, chunk.entries[:most], part, chunk.read_at)
                    self._chunks[0] = rest
                taken.append(chunk)
                limit -= len(chunk.entries)
                weight += chunk.weight
                self._count -= len(chunk.entries)
                self._weight -= chunk.weight
                chunk.stream.waiting -= len(chunk.entries)
            self._taken = taken
            if taken:
                self.changed.notify_all()
            return taken

    def room(self) -> int:
        """Return how many more entries may be read ahead."""
        return 0 if self._weight >= READ_AHEAD_BYTES else READ_AHEAD - self._count

    def held(self, stream: Stream) -> set[EntryId]:
        """Return the entries of a stream that wait here, or were taken last."""
        with self.changed:
            return {
                entry
                for chunk in (*self._chunks, *self._taken)
                if chunk.stream is stream
                for entry, _ in chunk.entries
            }

    def held_since(self, stream: Stream, before: float) -> list[EntryId]:
        """Return entries that were read before that time."""
        with self.changed:
            return [
                entry
                for c in self._chunks
                if c.stream is stream and c.read_at < before
                for entry, _ in c.entries
            ]

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self.changed:
            self.changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()


def entries_of(raw: Sequence[Any]) -> tuple[Entries, list[EntryId]]:
    """Return the entries that are there, and the ids of those that were removed from the stream."""
    if None not in raw and all(fields is not None for _, fields in raw):
        return list(raw), []
    entries: Entries = []
    removed: list[EntryId] = []
    for each in raw:
        if each is None:  # Redis 6.2 does not even tell its id
            continue
        entry, fields = each
        if fields is None:
            removed.append(entry)
        else:
            entries.append((entry, fields))
    return entries, removed
