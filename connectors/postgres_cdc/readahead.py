"""The bounded queue between the thread that reads the server and the dataflow's.

It is bounded in bytes: when it is full the reading thread waits, TCP's window closes and the
server waits. Either side wakes the other at once; nothing polls.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.errors import PenstockError
from connectors.postgres_cdc.tables import Table

CAPACITY = 2 << 20
"""Bytes read ahead: some ten full batches of small rows. Twice as much gave no more rows a second."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Replication messages, as they came."""

    messages: Sequence[bytes]
    size: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Lines of a table's rows, in key order, as they were at `lsn`."""

    table: Table
    lsn: int
    lines: Sequence[bytes]
    size: int


@dataclass(frozen=True, slots=True)
class TableRead:
    """The table has been read to its end."""

    name: str
    lsn: int
    size: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotStarted:
    """The stream will start at `start`; rows follow."""

    start: int
    size: int = 0


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """From here on messages follow: after the snapshot, and after each reconnect."""

    start: int
    size: int = 0
    messages: bool = False
    """Logical messages are among them."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing follows: `snapshot: only` is through."""

    size: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing follows until a person acts."""

    error: PenstockError
    size: int = 0


Chunk = Messages | Rows | TableRead | SnapshotStarted | StreamStarted | Ended | Failed


class ReadAhead:
    """A queue of chunks with a bound in bytes. One thread puts, one takes."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._chunks: deque[Chunk] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def put(self, chunk: Chunk) -> None:
        """Append a chunk; doesn't wait. See `wait_for_room`."""
        with self._changed:
            self._chunks.append(chunk)
            self._size += chunk.size
            self._changed.notify_all()

    def wait_for_room(self, timeout: float) -> bool:
        """Wait until there is room, at most `timeout` seconds; return whether there is."""
        if self._size < self._capacity:
            return True
        with self._changed:
            return self._changed.wait_for(
                lambda: self._size < self._capacity or self._closed, timeout
            )

    def take(self, timeout: float) -> Chunk | None:
        """Remove the first chunk; wait for one at most `timeout` seconds. None when there is none."""
        with self._changed:
            if not self._chunks:
                if timeout <= 0:
                    return None
                deadline = time.monotonic() + timeout
                while not self._chunks and not self._closed:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
                if not self._chunks:
                    return None
            full = self._size >= self._capacity
            chunk = self._chunks.popleft()
            self._size -= chunk.size
            if full:
                self._changed.notify_all()
            return chunk

    def peek(self) -> Chunk | None:
        """Return the first chunk and leave it there; None when there is none."""
        with self._changed:
            return self._chunks[0] if self._chunks else None

    def close(self) -> None:
        """Wake whoever waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
