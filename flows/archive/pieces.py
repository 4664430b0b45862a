"""Pieces: the events of a chunk that a reader was asked for, each with its place in the archive.

A place is the chunk's number and the event's in it: in a source partition they grow in the order in which
the events were handed over, so they are the positions that reading is resumed by. They stand in for the
source's own positions; what derives from those (the id of a row's change) is made before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from connectors.batch import Batch, Column, Maker, Position
from connectors.contracts import Window
from connectors.errors import FatalError, PermanentError
from flows.state.archive_bodies import Archived, Part, digest_of, events_of
from flows.state.records import ArchiveChunk

ARCHIVE_DAMAGED = "archive_damaged"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some events to hand over, whole or a part at a time."""

    batch: Batch
    after: Mapping[str, Position]
    """The places of what it comes from, once all of it is through: of what was left out, too."""

    def part(self, begin: int, end: int) -> Batch:
        """Return its events from `begin` to `end`, with the positions that they lead to."""
        if begin == 0 and end == self.batch.size:
            self.batch.after = self.after
            return self.batch
        part = self.batch.pick(range(begin, end))
        part.weight = self.batch.weight * part.size // self.batch.size
        part.after = dict(zip(part.column("partition"), part.column("position"), strict=True))
        if end == self.batch.size:
            part.after = {**part.after, **self.after}
        return part


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of an archive a reader was asked for."""

    window: Window
    positions: Mapping[str, Position]
    owns: Callable[[str], bool]
    event_type: str | None = None
    """A glob; chunks that have no event of such a type are left unread."""
    last: int | None = None
    """The last chunk that is read; None: whatever there is."""

    @property
    def since(self) -> float:
        """The window's beginning, in seconds."""
        return self.window.since / 1000

    @property
    def until(self) -> float:
        """The window's end, in seconds."""
        return self.window.until / 1000

    def partitions(self, number: int, count: int, partitions: str) -> list[str]:
        """Return the partitions of a chunk that anything is wanted of."""
        end = place(number, count - 1)
        return [
            name
            for name in json.loads(partitions)
            if self.owns(name) and self.positions.get(name, "") < end
        ]

    def may_have(self, types: str | None) -> bool:
        """Whether a chunk with events of these types has any that is wanted."""
        if self.event_type is None or types is None:
            return True
        return any(fnmatchcase(each, self.event_type) for each in types.split("\n"))


def place(chunk: int, index: int) -> Position:
    """Return an event's place as a position."""
    return f"{chunk:015d}.{index:06d}"


def check_position(position: Position) -> Position:
    """Return the position. Raises FatalError for one that is not of an archive."""
    chunk, _, index = position.partition(".")
    if not (chunk.isdecimal() and index.isdecimal()):
        raise FatalError(
            f"the position {position!r} is none in an archive.",
            code="position_foreign",
            hint="Positions of a source and of its archive are not the same: start anew.",
        )
    return position


def open_piece(chunk: ArchiveChunk, number: int, wanted: Wanted) -> Piece | None:
    """Return what is wanted of a chunk; None for nothing. Raises FatalError `archive_damaged`."""
    found = checked_events(chunk, number)
    batch, parts = found.batch, found.parts
    if wanted.last is not None:
        parts = tuple(part for part in parts if part.id <= wanted.last)
    own = wanted.partitions(number, chunk.count, chunk.partitions)
    if not parts or not own:
        return None
    _keep_what_positions_make(batch)
    # In a chunk that others were put into, events keep the places that they had.
    places = [place(part.id, index) for part in parts for index in range(part.count)]
    times = batch.column("timestamp")
    if None in times:
        archived = [part.archived_at for part in parts for _ in range(part.count)]
        times = [then if at is None else at for at, then in zip(times, archived, strict=False)]
    inside = wanted.since <= chunk.first_time and chunk.last_time < wanted.until
    chosen = _chosen(batch, places, None if inside else times, wanted, own)
    if len(chosen) < batch.size:
        batch = batch.pick(chosen)
        places = [places[index] for index in chosen]
    batch.columns["position"] = places
    batch.weight = sum(map(len, filter(None, batch.column("raw"))))
    return Piece(batch, dict.fromkeys(own, place(parts[-1].id, parts[-1].count - 1)))


def checked_events(chunk: ArchiveChunk, number: int) -> Archived:
    """Return a chunk's events, and what it was put together of: itself, where it was not.

    Raises FatalError `archive_damaged`, which names it.
    """
    why = ""
    if digest_of(chunk) != chunk.digest:
        why = "its checksum is another"
    else:
        try:
            found = events_of(chunk.body)
        except PermanentError as error:
            why = error.message
        else:
            parts = found.parts or (Part(number, chunk.count, chunk.archived_at),)
            if found.batch.size == chunk.count == sum(part.count for part in parts):
                return Archived(found.batch, parts)
            why = f"it has {found.batch.size} events instead of {chunk.count}"
    raise FatalError(
        f"chunk {number} of the archive of {chunk.source} is damaged: {why}.",
        code=ARCHIVE_DAMAGED,
        hint="`penstock archive verify` finds all that is; with --give-up it lets go of them, and reading"
        " passes them over.",
        chunk=number,
        events=chunk.count,
    )


def _chosen(
    batch: Batch,
    places: Sequence[Position],
    times: Sequence[float] | None,
    wanted: Wanted,
    own: Sequence[str],
) -> Sequence[int]:
    """Return the indexes of the events that are wanted; `times` is None if all are in the window."""
    since, until = wanted.since, wanted.until
    chosen: Sequence[int] = range(len(places))
    if times is not None:
        chosen = [index for index in chosen if since <= times[index] < until]
    partitions = batch.column("partition")
    mine = set(own)
    if any(name not in mine for name in set(partitions)):
        chosen = [index for index in chosen if partitions[index] in mine]
    begun = {name: at for name in own if (at := wanted.positions.get(name, "")) >= places[0]}
    if begun:
        chosen = [k for k in chosen if places[k] > begun.get(partitions[k], "")]
    return chosen


def _keep_what_positions_make(batch: Batch) -> None:
    """Make the columns that are derived from the source's positions, before those are gone."""
    makers = dict(batch.makers)
    for name, maker in batch.makers.items():
        if name != "position" and "position" in getattr(maker, "reads", ()):
            batch.column(name)
            makers[name] = _column(name)
    makers.pop("position", None)
    batch.makers = makers


@cache
def _column(name: str) -> Maker:
    """Return a maker of a column that is there: for who asks which columns there are."""
    return lambda batch: batch.columns[name]


def joined(pieces: Sequence[Piece]) -> Piece:
    """Return pieces as one; they are alike."""
    if len(pieces) == 1:
        return pieces[0]
    batches = [piece.batch for piece in pieces]
    columns: dict[str, Column] = {
        name: [value for batch in batches for value in batch.columns[name]]
        for name in batches[0].columns
    }
    batch = Batch(
        sum(each.size for each in batches),
        columns,
        after={},
        makers=batches[0].makers,
        weight=sum(each.weight for each in batches),
    )
    before = 0
    for each in batches:
        batch.errors.update({before + index: error for index, error in each.errors.items()})
        before += each.size
    after: dict[str, Position] = {}
    for piece in pieces:
        after.update(piece.after)
    return Piece(batch, after)


def are_alike(one: Piece, other: Piece) -> bool:
    """Whether the two have the same columns, made in the same way."""
    a, b = one.batch, other.batch
    return a.columns.keys() == b.columns.keys() and a.makers == b.makers
