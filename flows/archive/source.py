"""An archive as a source: what a module's events were, read again by time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from zlib import crc32

from connectors.contracts import (
    Check,
    Gap,
    Opening,
    Shard,
    SourceTraits,
    Survey,
    Window,
)
from connectors.errors import FlowFileError
from flows.archive.pieces import Wanted, check_position
from flows.archive.reader import ArchiveReader
from flows.state.archive_queries import DAMAGED, NOT_ARCHIVED, ArchiveTotals, ChunkPlace
from flows.state.archive_store import ArchiveStore
from flows.state.contracts import StateStore


class ArchiveSource:
    """See `connectors.contracts.Source`, and `Surveying`.

    Its events are what the source handed over, in the order of each of its partitions; their `position` is
    the place in the archive.
    """

    traits = SourceTraits(
        ordered=True, replayable=True, seek_by_time=True, partitioned=True, bounded=True
    )

    def __init__(
        self, archive: ArchiveStore, flow: str, source: str, event_type: str | None = None
    ) -> None:
        self._archive = archive
        self._event_type = event_type
        self._flow = flow
        self._source = source

    def preflight(self) -> Iterable[Check]:
        """Look whether anything has been archived."""
        with self._connected() as archive:
            found = archive.totals(self._flow, self._source)
        yield Check(
            f"archive of {self._source}",
            ok=bool(found),
            found=f"{found[0].events:,} events" if found else "nothing was archived",
            hint="" if found else "Give the source an `archive: {retention: 7d}` and run the flow.",
        )

    def open(self, opening: Opening) -> ArchiveReader:
        """Begin to read the window, behind the positions."""
        window = opening.window
        if window is None:
            raise FlowFileError(
                f"the archive of {self._source} is read by time, and no window was named.",
                code="archive_window",
                hint="Say from when and to when.",
            )
        positions = {name: check_position(at) for name, at in opening.positions.items()}
        wanted = Wanted(window, positions, _ownership(opening.shard), self._event_type)
        archive = self._archive.apart()
        try:
            totals = archive.totals(self._flow, self._source)
            extent = archive.extent(self._flow, self._source, wanted.since, wanted.until)
            gone = max((each.forgotten_id for each in totals), default=0)
        except BaseException:
            archive.close()
            raise
        return ArchiveReader(
            archive,
            self._flow,
            self._source,
            wanted,
            last=extent.last_id,
            gone=gone,
        )

    def survey(self, window: Window) -> Survey:
        """Tell what the archive holds of a window, from its index alone."""
        since, until = window.since / 1000, window.until / 1000
        with self._connected() as archive:
            totals = archive.totals(self._flow, self._source)
            extent = archive.extent(self._flow, self._source, since, until)
            missing = archive.missing(self._flow, self._source, since, until)
        if not totals:
            reason = f"nothing of {self._source} was ever archived"
            return Survey(0, 0, None, None, (Gap(window.since, window.until, reason),), exact=True)
        lost = sum(each.count for each in missing)
        first = None if extent.first_time is None else max(since, extent.first_time)
        last = None if extent.last_time is None else min(until, extent.last_time)
        return Survey(
            events=extent.events - lost,
            bytes=extent.bytes,
            first=None if first is None else int(first * 1000),
            last=None if last is None else int(last * 1000),
            gaps=tuple(_gaps(window, totals[0], missing)),
            exact=extent.split == 0,
        )

    @contextmanager
    def _connected(self) -> Iterator[ArchiveStore]:
        archive = self._archive.apart()
        try:
            yield archive
        finally:
            archive.close()


def archive_of(
    store: StateStore, flow: str, source_name: str, *, event_type: str | None = None
) -> ArchiveSource:
    """Return the archive of a flow's source; each reader of it opens a connection of its own.

    `event_type`: a glob; chunks without an event of such a type are left unread. Of the others all
    events are handed over, and a survey counts all.
    """
    return ArchiveSource(store.archive, flow, source_name, event_type)


def _ownership(shard: Shard) -> Callable[[str], bool]:
    """Return what tells whether a partition is of the shard.

    Partitions are named by their source, often with a number at the end: those of one topic are
    dealt out in turn.
    """

    def owns(partition: str) -> bool:
        digits = partition[len(partition.rstrip("0123456789")) :][-9:]
        name = partition[: len(partition) - len(digits)]
        return shard.takes(crc32(name.encode()) + int(digits or 0))

    return owns


def _gaps(window: Window, totals: ArchiveTotals, missing: list[ChunkPlace]) -> Iterator[Gap]:
    """Yield what is missing in a window, or may be."""
    since, until = window.since, window.until
    known = _millis(totals.began_at) if totals.began_at is not None else until
    if since < known:
        reason = f"the archive begins at {_shown(known)}"
        yield Gap(since, min(until, known), reason)
    if totals.forgotten_until is not None and _millis(totals.forgotten_until) >= since:
        reason = f"forgotten up to {_shown(_millis(totals.forgotten_until))}: retention or max_size"
        yield Gap(since, min(until, _millis(totals.forgotten_until) + 1), reason)
    for chunk in missing:
        first, last = max(since, _millis(chunk.first_time)), _millis(chunk.last_time) + 1
        yield Gap(first, min(until, last), reason_of(chunk))
    if totals.off_since is not None and _millis(totals.off_since) < until:
        first = max(since, _millis(totals.off_since))
        yield Gap(first, until, "the flow runs without this archive")


def reason_of(chunk: ChunkPlace) -> str:
    """Return why the events of a chunk can't be read, in one line."""
    if chunk.state == NOT_ARCHIVED:
        return "the flow ran without this archive"
    what = "is damaged" if chunk.state == DAMAGED else "was damaged and has been given up"
    return f"chunk {chunk.id} with {chunk.count:,} events {what}"


def _millis(seconds: float) -> int:
    return int(seconds * 1000)


def _shown(millis: int) -> str:
    try:
        at = datetime.fromtimestamp(millis / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):  # events say of themselves when they were
        return f"{millis / 1000:.0f} s"
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
