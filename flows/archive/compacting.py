"""Puts small chunks of an archive together: a slow source brings an event at a time, and a chunk each.

Chunks are taken in their order, a group at a time, once no more can come to the group: it is full, or its
time is over. So each is put together once. Its events keep their places, which jobs have as positions, and
the times that they were archived at (flows.state.archive_bodies, `Part`). What is put together is read
again and compared before it takes the others' place, in one transaction (flows.state.archive_compaction).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from connectors.batch import Batch
from connectors.errors import FatalError
from flows.archive.pieces import Piece, are_alike, checked_events, joined
from flows.state.archive_bodies import Part, archive_chunk, digest_of, events_of, hold
from flows.state.archive_compaction import ArchiveCompaction, SmallChunk
from flows.state.archive_queries import DAMAGED
from flows.state.archive_store import ArchiveStore
from flows.state.records import ArchiveChunk

MOST, MOST_BYTES = 1000, 256 << 10
"""Events, and compressed bytes of them, that are put together at the most."""

SMALL, SMALL_BYTES = 100, 32 << 10
"""Events, and bytes, of a chunk that is worth putting together with others."""

SPAN = 3600.0
"""Seconds between the first and the last of what is put together, by when it was archived; of the events'
own times, twice that. A window that wants an hour's events reads little more than those."""

PART_OF_RETENTION = 20
"""No group spans more than this part of the retention: its first event is kept longer by as much."""

LONGEST = 2.0
"""Seconds that it may take at once: its thread has a lease to renew."""


def compact(
    archive: ArchiveStore, flow: str, source: str, *, retention: float | None, now: float
) -> int:
    """Put small chunks of a source together; return how many fewer there are.

    Blocks for LONGEST seconds or little more; what is left is done the next time. Raises FatalError,
    RetryableError of the state store.
    """
    span = min(SPAN, retention / PART_OF_RETENTION) if retention else SPAN
    compaction = archive.compaction(flow, source)
    until = time.monotonic() + LONGEST
    fewer, after = 0, compaction.mark()
    while time.monotonic() < until:
        page = compaction.next_chunks(after, MOST + 1)
        group = _group(page, span, now)
        if not group:
            break
        if len(group) > 1:
            fewer += _compact(archive, compaction, group)
        after = group[-1].id
        compaction.set_mark(after)
    return fewer


def _group(page: Sequence[SmallChunk], span: float, now: float) -> list[SmallChunk]:
    """Return the first chunks that belong together; [] while more may come to them."""
    group: list[SmallChunk] = []
    events = size = 0
    first, last = float("inf"), float("-inf")
    for row in page:
        events, size = events + row.count, size + row.bytes
        first, last = min(first, row.first_time), max(last, row.last_time)
        small = row.is_small(SMALL, SMALL_BYTES)
        if group and not (
            small
            and events <= MOST
            and size <= MOST_BYTES
            and row.archived_at - group[0].archived_at <= span
            and last - first <= 2 * SPAN
        ):
            return group
        group.append(row)
        if not small:
            return group
    return group if group and now - group[0].archived_at > span else []


@dataclass(frozen=True, slots=True)
class _Member:
    id: int
    chunk: ArchiveChunk
    events: Batch
    parts: Sequence[Part]


def _compact(
    archive: ArchiveStore, compaction: ArchiveCompaction, group: Sequence[SmallChunk]
) -> int:
    fewer = 0
    for members in _alike(archive, group):
        if len(members) > 1:
            whole = _together(members)
            replaced = {each.id: each.chunk.digest for each in members}
            size = sum(len(each.chunk.body) for each in members)
            if compaction.replace(replaced, whole, size):
                fewer += len(members) - 1
    return fewer


def _alike(archive: ArchiveStore, group: Sequence[SmallChunk]) -> Iterator[list[_Member]]:
    """Yield chunks that follow each other and have the same columns, as they are read."""
    members: list[_Member] = []
    for row in group:
        chunk = archive.chunk(row.id)
        if chunk is None:
            continue  # forgotten meanwhile
        try:
            found = checked_events(chunk, row.id)
        except FatalError:
            archive.mark(row.id, DAMAGED)
            yield members
            members = []
            continue
        if members and not are_alike(Piece(members[0].events, {}), Piece(found.batch, {})):
            yield members
            members = []
        members.append(_Member(row.id, chunk, found.batch, found.parts))
    yield members


def _together(members: Sequence[_Member]) -> ArchiveChunk:
    """Return chunks as one, which was read again. Raises FatalError `archive_not_compacted`."""
    chunks = [each.chunk for each in members]
    events = joined([Piece(each.events, {}) for each in members]).batch
    parts = [part for each in members for part in each.parts]
    made = archive_chunk(hold(events), chunks[0].source, chunks[-1].archived_at, parts)
    made = replace(
        made,
        first_time=min(each.first_time for each in chunks),
        last_time=max(each.last_time for each in chunks),
        first_id=members[0].id,
    )
    made = replace(made, digest=digest_of(made))
    again = events_of(made.body).batch
    names = ("raw", "id", "source", "type", "timestamp", "key", "partition", "position")
    if any(again.column(name) != events.column(name) for name in names):
        raise FatalError(
            f"chunks {members[0].id} to {members[-1].id} of the archive of {made.source} are others once"
            " they are put together.",
            code="archive_not_compacted",
            hint="Nothing was changed. This is a defect of penstock: please report it.",
        )
    return made
