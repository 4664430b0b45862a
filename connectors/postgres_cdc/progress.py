"""What of a table a snapshot has read, and at which LSN: resuming it, and what the stream may skip.

A snapshot that is interrupted can't be taken up where it was: the server's snapshot is gone with its
connection. The rest is read in a new one, so a table can have several *ranges*, in key order, each
seen at its own LSN. The stream starts at the first snapshot's LSN; a change that had committed
before the LSN at which its row's range was read is in the row that was read, and is skipped.

    state = {"start": LSN, "read": {"public.orders": [[LSN, [last key]], [LSN, null]]}, …}

null instead of a last key: the range goes to the end of the table, which is then complete.

Rows that were handed over just before a crash may have had their effect without being settled. So
the position names, before they go out, the key up to which rows may be out (`ahead`). Read again at
a later LSN, those that are still there speak for themselves. One that is gone by then has nobody
who would take it back, so its changes since the earlier snapshot are not skipped: such a *doubtful*
part of a range remembers that LSN, and the keys that were still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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


TextKey = tuple[str, ...]


def _comparable(kinds: Sequence[KeyKind], key: TextKey) -> Key:
    return comparable(kinds, [value.encode() for value in key])


@dataclass(frozen=True, slots=True)
class Doubt:
    """Rows up to `upto` (None: all) may have gone out at `since` and not been settled."""

    since: int
    upto: TextKey | None


@dataclass(frozen=True, slots=True)
class Range:
    """Rows up to `last` (None: to the table's end), as they were at `lsn`."""

    lsn: int
    last: TextKey | None
    doubt: Doubt | None = None
    present: frozenset[TextKey] = frozenset()
    """The keys in doubt that were there at `lsn`."""

    def state(self) -> list[Any]:
        """Return it as a position carries it."""
        found: list[Any] = [self.lsn, self.last and list(self.last)]
        if self.doubt is not None:
            upto = self.doubt.upto and list(self.doubt.upto)
            found += [self.doubt.since, upto, sorted(map(list, self.present))]
        return found

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Range:
        """Return what `state` says."""
        lsn, last, *more = state
        found = cls(lsn, _text_key(last))
        if more:
            since, upto, present = more
            doubt = Doubt(since, _text_key(upto))
            found = cls(lsn, found.last, doubt, frozenset(map(tuple, present)))
        return found


def _text_key(key: Sequence[str] | None) -> TextKey | None:
    return None if key is None else tuple(key)


class TableRanges:
    """The ranges of one table, for the stream's question whether a change was read already."""

    def __init__(self, ranges: Sequence[Range], kinds: Sequence[KeyKind]) -> None:
        self._kinds = kinds
        self._ranges = [
            (
                entry.lsn,
                None if entry.last is None else _comparable(kinds, entry.last),
                self._doubt(entry),
            )
            for entry in ranges
        ]
        lsns = [entry.lsn for entry in ranges]
        doubts = [entry.doubt.since for entry in ranges if entry.doubt is not None]
        self.highest = max(lsns, default=0)
        self.lowest = min(lsns + doubts, default=0)

    def _doubt(self, entry: Range) -> tuple[int, Key | None, frozenset[Key]] | None:
        if entry.doubt is None:
            return None
        upto = entry.doubt.upto
        return (
            entry.doubt.since,
            None if upto is None else _comparable(self._kinds, upto),
            frozenset(_comparable(self._kinds, key) for key in entry.present),
        )

    def read_at(self, values: Sequence[bytes]) -> int:
        """Return the LSN at which the row of this key was read, or would have been."""
        key = comparable(self._kinds, values) if self._kinds else ()
        for lsn, last, doubt in self._ranges:
            if last is None or key <= last:
                if doubt is not None:
                    since, upto, present = doubt
                    if (upto is None or key <= upto) and key not in present:
                        return since
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
    doubts: dict[str, Doubt] = field(default_factory=dict)
    """Table → what may be out though nobody knows, from before this process."""
    ahead: tuple[str, Doubt] | None = None
    """The table, LSN and key up to which this process may hand rows over next."""

    @classmethod
    def begin(cls, start: int, time: float) -> Progress:
        """Return the progress of a snapshot of which nothing is read."""
        return cls(start, time, {})

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """Return what `state` says."""
        tables = {
            name: [Range.from_state(one) for one in ranges]
            for name, ranges in state.get("read", {}).items()
        }
        doubts = {
            name: Doubt(since, _text_key(upto))
            for name, (since, upto) in (state.get("ahead") or {}).items()
        }
        return cls(int(state.get("start", 0)), float(state.get("time", 0.0)), tables, doubts)

    def state(self) -> dict[str, Any]:
        """Return it as a position carries it."""
        found: dict[str, Any] = {"start": self.start, "time": self.time, "read": self.read_state()}
        doubts = dict(self.doubts)
        if self.ahead is not None:
            name, ahead = self.ahead
            earlier = doubts.get(name)
            # What was in doubt before stays so; the process before may have got further, or less.
            if earlier is None:
                doubts[name] = ahead
            elif earlier.upto is not None:
                doubts[name] = Doubt(earlier.since, self._further(name, earlier.upto, ahead.upto))
        # null, and not absent, while there is none: so the text sorts before that of a later position.
        found["ahead"] = {
            name: [doubt.since, doubt.upto and list(doubt.upto)] for name, doubt in doubts.items()
        } or None
        return found

    kinds: Mapping[str, Sequence[KeyKind]] = field(default_factory=dict)
    """Table → how its keys compare; {} where no doubt is to be compared."""

    def _further(self, table: str, one: TextKey, other: TextKey | None) -> TextKey | None:
        if other is None:
            return None
        kinds = self.kinds.get(table, ())
        return max(one, other, key=lambda key: _comparable(kinds, key))

    def read_state(self) -> dict[str, Any]:
        """Return the ranges alone."""
        return {name: [entry.state() for entry in ranges] for name, ranges in self.tables.items()}

    def copy(self) -> Progress:
        """Return another copy."""
        tables = {name: list(ranges) for name, ranges in self.tables.items()}
        return replace(self, tables=tables, doubts=dict(self.doubts))

    def complete(self, table: str) -> bool:
        """Whether the table has been read to its end."""
        ranges = self.tables.get(table)
        return bool(ranges) and ranges[-1].last is None  # type: ignore[index]  # not None: true

    def last_key(self, table: str) -> TextKey | None:
        """Return the key after which the table is still to be read; None: from its start."""
        ranges = self.tables.get(table)
        return ranges[-1].last if ranges else None

    def in_doubt(self, table: str) -> bool:
        """Whether rows that come next may have gone out before."""
        return table in self.doubts

    def advance(
        self, table: str, lsn: int, last: TextKey | None, keys: Iterable[TextKey] = ()
    ) -> None:
        """Record that the table was read up to `last` (None: to its end) as it was at `lsn`.

        `keys`: those of the rows just read, needed while `in_doubt`.
        """
        ranges = self.tables.setdefault(table, [])
        doubt = self.doubts.get(table)
        present: frozenset[TextKey] = frozenset()
        if ranges and ranges[-1].lsn == lsn:
            latest = ranges.pop()
            doubt, present = latest.doubt, latest.present
        kinds = self.kinds.get(table, ())
        if doubt is not None and doubt.upto is not None:
            upto = _comparable(kinds, doubt.upto)
            present |= {key for key in keys if _comparable(kinds, key) <= upto}
            if last is None or _comparable(kinds, last) >= upto:
                self.doubts.pop(table, None)
        elif last is None:
            self.doubts.pop(table, None)
        ranges.append(Range(lsn, last, doubt, present))

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
