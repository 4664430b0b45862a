"""What of a table a snapshot has read, and at which LSN: resuming it, and what the stream may skip.

A snapshot that is interrupted can't be taken up where it was: the server's snapshot is gone with its
connection. The rest is read in a new one, so a table can have several *ranges*, in key order, each
seen at its own LSN. The stream starts at the first snapshot's LSN; a change that had committed
before the LSN at which its row's range was read is in the row that was read, and is skipped.

    state = {"start": LSN, "read": {"public.orders": [[LSN, [last key]], [LSN, null]]}}

null instead of a last key: the range goes to the end of the table, which is then complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Key = tuple[int | bytes, ...]
"""A key's values, comparable in the order in which the server reads them."""

KeyKind = Literal["integer", "text", "padded", "uuid"]

KEY_KINDS: Mapping[int, KeyKind] = {
    20: "integer",
    21: "integer",
    23: "integer",
    26: "integer",
    25: "text",
    1043: "text",
    1042: "padded",
    2950: "uuid",
}
"""Types whose order is the same here and there: integers; text in bytes (COLLATE "C"), char(n)
without its padding; uuid, whose text sorts as its bytes."""


def comparable(kinds: Sequence[KeyKind], values: Sequence[bytes]) -> Key:
    """Return a key that compares as the server orders such keys."""
    return tuple(
        int(value) if kind == "integer" else value.rstrip(b" ") if kind == "padded" else value
        for kind, value in zip(kinds, values, strict=True)
    )


def order_terms(names: Sequence[str], kinds: Sequence[KeyKind]) -> list[str]:
    """Return the ORDER BY terms (`names` already quoted) that make `comparable` right."""
    return [
        f'{name} COLLATE "C"' if kind in ("text", "padded") else name
        for name, kind in zip(names, kinds, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Range:
    """Rows up to `last` (None: to the table's end), as they were at `lsn`."""

    lsn: int
    last: tuple[str, ...] | None


class TableRanges:
    """The ranges of one table, for the stream's question whether a change was read already."""

    def __init__(self, ranges: Sequence[Range], kinds: Sequence[KeyKind]) -> None:
        self._kinds = kinds
        self._ranges = [
            (
                entry.lsn,
                None
                if entry.last is None
                else comparable(kinds, [value.encode() for value in entry.last]),
            )
            for entry in ranges
        ]
        self.highest = max((entry.lsn for entry in ranges), default=0)
        self.lowest = min((entry.lsn for entry in ranges), default=0)

    def read_at(self, values: Sequence[bytes]) -> int:
        """Return the LSN at which the row of this key was read, or would have been."""
        if len(self._ranges) == 1:
            return self._ranges[0][0]
        key = comparable(self._kinds, values)
        for lsn, last in self._ranges:
            if last is None or key <= last:
                return lsn
        return 0


@dataclass(slots=True)
class Progress:
    """How far a snapshot is: mutable, one copy where rows are read and one where they go out."""

    start: int
    """Where the stream will start."""
    time: float
    """When the first snapshot was taken, in Unix seconds: the time of its events."""
    tables: dict[str, list[Range]]

    @classmethod
    def begin(cls, start: int, time: float) -> Progress:
        """Return the progress of a snapshot of which nothing is read."""
        return cls(start, time, {})

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """Return what `state` says."""
        tables = {
            name: [Range(lsn, None if last is None else tuple(last)) for lsn, last in ranges]
            for name, ranges in state.get("read", {}).items()
        }
        return cls(int(state.get("start", 0)), float(state.get("time", 0.0)), tables)

    def state(self) -> dict[str, Any]:
        """Return it as a position carries it."""
        return {"start": self.start, "time": self.time, "read": self.read_state()}

    def read_state(self) -> dict[str, Any]:
        """Return the ranges alone."""
        return {
            name: [[entry.lsn, entry.last and list(entry.last)] for entry in ranges]
            for name, ranges in self.tables.items()
        }

    def copy(self) -> Progress:
        """Return another copy."""
        return Progress(self.start, self.time, {k: list(v) for k, v in self.tables.items()})

    def complete(self, table: str) -> bool:
        """Whether the table has been read to its end."""
        ranges = self.tables.get(table)
        return bool(ranges) and ranges[-1].last is None  # type: ignore[index]  # not None: true

    def last_key(self, table: str) -> tuple[str, ...] | None:
        """Return the key after which the table is still to be read; None: from its start."""
        ranges = self.tables.get(table)
        return ranges[-1].last if ranges else None

    def advance(self, table: str, lsn: int, last: tuple[str, ...] | None) -> None:
        """Record that the table was read up to `last` (None: to its end) as it was at `lsn`."""
        ranges = self.tables.setdefault(table, [])
        if ranges and ranges[-1].lsn == lsn:
            ranges[-1] = Range(lsn, last)
        else:
            ranges.append(Range(lsn, last))

    def highest(self) -> int:
        """Return the latest LSN that anything was read at: past it, the stream skips nothing."""
        return max((entry.lsn for ranges in self.tables.values() for entry in ranges), default=0)


Verdict = Literal["keep", "skip", "insert", "delete"]


def judge(commit_lsn: int, old_read_at: int, new_read_at: int) -> Verdict:
    """Decide on an update that committed at `commit_lsn` and may move a row between ranges.

    `old_read_at`, `new_read_at`: when the ranges of its old and its new key were read. Seen
    already by both: skip. Only the old one's range knows it: that row was not read any more, so
    the new row is an INSERT. Only the new one's: the new row was read, the old one must go.
    """
    knows_old, knows_new = commit_lsn < old_read_at, commit_lsn < new_read_at
    if knows_old:
        return "skip" if knows_new else "insert"
    return "delete" if knows_new else "keep"
