"""Snapshots while streaming: which rows of a chunk still hold, and how far they are. Pure: no I/O.

A table is read in chunks, in key order, each between two messages in the WAL, its watermarks (the
algorithm of DBLog). The stream hands a chunk over where it meets the upper one, without the rows
that it has seen change in between: those it has handed over as they are by then.

    … change ─ low ─ change of row 7 ─ high: rows 1 to 6, 8 to 10 ─ change …
                └── rows 1 to 10 are read ──┘

What that takes for granted does not quite hold: a transaction's commit is in the WAL before others
see it, for as long as a synchronous standby takes. A chunk that was read in that moment lacks a
change that the stream has met before the lower watermark. So each chunk says which transactions
its snapshot did not see; when the stream has met one of them by then, the chunk is read again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors.errors import PenstockError
from connectors.postgres_cdc.pgoutput import Value
from connectors.postgres_cdc.progress import Key, KeyKind, TextKey, comparable
from connectors.postgres_cdc.tables import Table

WATERMARK = "penstock.watermark"
"""The prefix of the messages."""


@dataclass(frozen=True, slots=True)
class Copy:
    """How far one snapshot is."""

    id: int
    """The number it was asked for under; 0: of tables that the flow had not read before."""
    left: tuple[str, ...]
    """Tables that are still to be read, the first of them from behind `after`."""
    after: TextKey | None = None
    rows: int = 0
    """Rows handed over."""

    def state(self) -> dict[str, Any]:
        """Return it as a position carries it."""
        found: dict[str, Any] = {"id": self.id, "left": list(self.left), "rows": self.rows}
        if self.after is not None:
            found["after"] = list(self.after)
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Copy:
        """Return what `state` says."""
        after = state.get("after")
        return cls(
            state["id"],
            tuple(state["left"]),
            None if after is None else tuple(after),
            state["rows"],
        )

    def advanced(self, after: TextKey | None, rows: int) -> Copy:
        """Return it `rows` further, up to the key `after`."""
        return replace(self, after=after, rows=self.rows + rows)

    def without_first(self) -> Copy:
        """Return it with its first table read to the end."""
        return replace(self, left=self.left[1:], after=None)


@dataclass(frozen=True, slots=True)
class Seen:
    """Which transactions a snapshot of the server's has seen: `pg_current_snapshot()`."""

    low: int
    high: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Seen:
        """Return what the server's text says: `xmin:xmax:xid,xid`."""
        low, high, running = text.split(":")
        return cls(int(low), int(high), frozenset(map(int, running.split(",") if running else ())))

    def has(self, xid: int) -> bool:
        """Whether it has seen the transaction, whose number the stream has cut to 32 bits."""
        apart = (xid - self.high) & 0xFFFFFFFF
        whole = self.high + apart - (1 << 32 if apart >= 1 << 31 else 0)
        return whole < self.low or (whole < self.high and whole not in self.running)


@dataclass(frozen=True, slots=True)
class CopyChunk:
    """Rows of a table that were read between two watermarks."""

    table: Table
    lines: Sequence[bytes]
    seen: Seen
    last_key: TextKey | None
    """Of the last line; None where there is none."""
    ends: bool
    """The table ends with it."""


class Desk:
    """Where the thread that reads chunks and the stream's meet. All methods on any thread."""

    def __init__(self, token: str, copy: Copy) -> None:
        """`token` tells these watermarks from those of other readers, and of earlier ones."""
        self.token = token
        self.failure: PenstockError | None = None
        self.seen: Seen | None = None
        """A recent snapshot: what it has seen, every later one has."""
        self._changed = threading.Condition()
        self._number = 0
        self._table = ""
        self._chunk: CopyChunk | None = None
        self._copy = copy
        self._epoch = 0
        self._listening = False
        self.closed = False

    # ---- for the thread that reads ----

    def begin(self, wait: float) -> tuple[int, Copy] | None:
        """Return an epoch and where to read on, once the stream listens; None: not yet."""
        with self._changed:
            self._changed.wait_for(lambda: self._listening or self.closed, wait)
            return (self._epoch, self._copy) if self._listening and not self.closed else None

    def announce(self, epoch: int, table: str) -> str | None:
        """Name the table of the next chunk; return its watermarks' name, None in a later epoch."""
        with self._changed:
            if epoch != self._epoch or self.closed:
                return None
            self._number += 1
            self._table, self._chunk = table, None
            return f"{self.token}:{self._number}"

    def offer(self, epoch: int, chunk: CopyChunk) -> bool:
        """Lay down what was read, before the upper watermark; False in a later epoch."""
        with self._changed:
            if epoch != self._epoch or self.closed:
                return False
            self.seen = chunk.seen
            self._chunk = chunk
            return True

    def taken(self, epoch: int, wait: float) -> bool | None:
        """Whether the stream has taken the chunk; None: not yet. False: read on where `begin` says."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._chunk is None or epoch != self._epoch or self.closed, wait
            )
            if epoch != self._epoch or self.closed:
                return False
            return True if self._chunk is None else None

    # ---- for the stream ----

    def listen(self, copy: Copy) -> None:
        """Tell that the stream shows watermarks from here on, and where to read on."""
        self._restart(copy, listening=True)

    def again(self, copy: Copy) -> None:
        """Have the thread read on from here, whatever it has read since."""
        self._restart(copy, listening=self._listening)

    def _restart(self, copy: Copy, *, listening: bool) -> None:
        with self._changed:
            self._epoch += 1
            self._copy, self._chunk, self._table = copy, None, ""
            self._listening = listening
            self._changed.notify_all()

    def table_of(self, name: str) -> str:
        """Return the table of the chunk whose watermark this is; "" if it is none that counts."""
        with self._changed:
            return self._table if name == f"{self.token}:{self._number}" else ""

    def take(self) -> CopyChunk | None:
        """Take the chunk, so that the next one is read."""
        with self._changed:
            chunk, self._chunk = self._chunk, None
            self._changed.notify_all()
            return chunk

    def close(self) -> None:
        """Send the thread home."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Windows:
    """What the stream notes of each chunk's window: the rows that changed, the commits before it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.table = ""
        """The table whose window is open; "": none is."""
        self._touched: set[Key] = set()
        self._kinds: Sequence[KeyKind] | None = None
        self._emptied = False
        self._unseen: set[int] = set()
        self._filtered_by: Seen | None = None
        self._before: set[int] = set()

    def committed(self, xid: int) -> None:
        """Note a transaction of the stream that the latest snapshot has not seen."""
        seen = self.desk.seen
        if seen is None:
            self._unseen.add(xid)
            return
        if seen is not self._filtered_by:
            self._unseen = {one for one in self._unseen if not seen.has(one)}
            self._filtered_by = seen
        if not seen.has(xid):
            self._unseen.add(xid)

    def changed(
        self, table: Table, old: Sequence[Value] | None, new: Sequence[Value] | None
    ) -> None:
        """Note a change of a row in the open window's table."""
        kinds = self._kinds = table.kinds or ()
        for values in (old, new):
            if values is not None:
                self._touched.add(comparable(kinds, table.key_values(values)))

    def truncated(self) -> None:
        """Note that the open window's table was emptied: the stream has all that came after."""
        self._emptied = True

    def low(self, name: str) -> None:
        """Open the window."""
        self.table = self.desk.table_of(name)
        self._touched, self._kinds = set(), None
        self._emptied = False
        self._before = set(self._unseen)

    def high(self, name: str, copy: Copy) -> tuple[CopyChunk, list[bytes]] | None:
        """Close the window; return its chunk and the lines of it that hold, None if there is none."""
        if not self.table or self.desk.table_of(name) != self.table:
            return None
        self.table = ""
        chunk = self.desk.take()
        if chunk is None:
            return None
        # Keys whose type was changed meanwhile can't be compared either.
        differs = self._kinds is not None and self._kinds != chunk.table.kinds
        if differs or not all(chunk.seen.has(xid) for xid in self._before):
            self.desk.again(copy)
            return None
        if self._emptied:
            return chunk, []
        touched = self._touched
        if not touched:
            return chunk, list(chunk.lines)
        table, kinds = chunk.table, chunk.table.kinds or ()
        split = table.codec.split_line
        return chunk, [
            line
            for line in chunk.lines
            if comparable(kinds, table.key_values(split(line))) not in touched
        ]

    def reset(self, copy: Copy) -> None:
        """Forget the open window: the stream begins anew behind what was settled, or was handed over."""
        self.table = ""
        self.desk.again(copy)
