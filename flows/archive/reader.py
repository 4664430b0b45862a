"""Reads an archive: chunks are fetched and decoded on a thread of its own, a few ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from connectors.batch import Batch, Position
from connectors.contracts import EndOfSource, Lag
from connectors.errors import FatalError, PenstockError, RetryableError, defect
from flows.archive.pieces import ARCHIVE_DAMAGED, Piece, Wanted, are_alike, joined, open_piece
from flows.runtime.backoff import Backoff
from flows.state.archive_queries import DAMAGED, GIVEN_UP, NOT_ARCHIVED, ChunkPlace
from flows.state.archive_store import ArchiveStore

T = TypeVar("T")

AHEAD = 4
"""Pieces that are decoded ahead."""

TOGETHER, TOGETHER_BYTES = 1000, 1 << 20
"""Events, and bytes of them, up to which small chunks are handed over together."""

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 5.0


class _PutTogetherError(Exception):
    """A chunk is part of another one since the page that names it was read."""


class ArchiveReader:
    """See `connectors.contracts.Reader`. Ends with the chunks that there were when it was opened."""

    def __init__(
        self,
        store: ArchiveStore,
        flow: str,
        source: str,
        wanted: Wanted,
        *,
        last: int,
        gone: int,
    ) -> None:
        """`last`: the last chunk that is read; `gone`: the last that had been forgotten by now."""
        self._store = store
        self._flow = flow
        self._source = source
        self._wanted = replace(wanted, last=last)
        self._read = dict(wanted.positions)
        self._last = last
        self._gone = gone
        self._pieces: queue.Queue[Piece | PenstockError | None] = queue.Queue(AHEAD)
        self._piece: Piece | None = None
        self._at = 0
        self._over: PenstockError | EndOfSource | None = None
        self._status = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archive-reader", daemon=True)
        self._thread.start()

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over events of the window; see the contract."""
        if self._over is not None:
            raise self._over
        if self._piece is None:
            try:
                found = self._pieces.get(timeout > 0, timeout or None)
            except queue.Empty:
                return None
            if not isinstance(found, Piece):
                self._over = found or EndOfSource()
                raise self._over
            self._piece, self._at = found, 0
        piece, begin = self._piece, self._at
        self._at = end = min(begin + limit, piece.batch.size)
        if end == piece.batch.size:
            self._piece = None
        return piece.part(begin, end)

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Nothing is: an archive keeps what it has for as long as it is to."""

    def owns(self, partition: str) -> bool:
        """Whether the partition is of this reader's shard."""
        return self._wanted.owns(partition)

    def lag(self) -> Mapping[str, Lag]:
        """Know of none: what there is was told by the survey."""
        return {}

    def status(self) -> str:
        """Return "" or what it waits for."""
        return self._status

    def close(self) -> None:
        """Stop the thread; it closes its connection."""
        self._stop.set()
        self._thread.join(5.0)

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        end: PenstockError | None = None
        try:
            for piece in self._together():
                if not self._put(piece):
                    return
        except PenstockError as error:
            end = error
        except Exception as error:  # noqa: BLE001 - a defect must stop the worker, not the thread alone
            end = defect("reading an archive", error)
        finally:
            self._store.close()
        self._put(end)

    def _put(self, piece: Piece | PenstockError | None) -> bool:
        while not self._stop.is_set():
            try:
                self._pieces.put(piece, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def _together(self) -> Iterator[Piece]:
        """Yield pieces, small ones together: a batch costs the same, however little it holds."""
        waiting: list[Piece] = []
        size = weight = 0
        for piece in self._each():
            more = size + piece.batch.size, weight + piece.batch.weight
            fits = more[0] <= TOGETHER and more[1] <= TOGETHER_BYTES
            if waiting and not (fits and are_alike(waiting[0], piece)):
                yield joined(waiting)
                waiting, more = [], (piece.batch.size, piece.batch.weight)
            waiting.append(piece)
            size, weight = more
        if waiting:
            yield joined(waiting)

    def _each(self) -> Iterator[Piece]:
        # What was put together since, has the last one's number: that may be behind the end.
        after = min(self._retrying(self._first), self._last) - 1
        while after < self._last:
            page = self._retrying(lambda after=after: self._page(after))  # type: ignore[misc]
            if not page:
                return
            for found in page:
                try:
                    piece = self._piece_of(found)
                except _PutTogetherError:
                    self._wanted = replace(self._wanted, positions=dict(self._read))
                    break
                after = found.id
                if piece is not None:
                    self._read.update(piece.after)
                    yield piece

    def _first(self) -> int:
        """Return the first chunk to read, once all up to the last are there to be seen."""
        self._store.wait_for_commits(self._flow)
        wanted = self._wanted
        return self._store.extent(self._flow, self._source, wanted.since, wanted.until).first_id

    def _page(self, after: int) -> list[ChunkPlace]:
        wanted = self._wanted
        page = self._store.page(
            self._flow,
            self._source,
            since=wanted.since,
            until=wanted.until,
            after=after,
            last=self._last,
        )
        # Asked after the page was read: what is forgotten from now on, the chunk itself tells.
        totals = self._store.totals(self._flow, self._source)
        gone = max((each.forgotten_id for each in totals), default=0)
        if gone > max(self._gone, after):
            raise self._forgotten(gone)
        return page

    def _piece_of(self, found: ChunkPlace) -> Piece | None:
        if found.state in {GIVEN_UP, NOT_ARCHIVED}:
            return None
        wanted = self._wanted
        if not wanted.may_have(found.types):
            return None
        if not wanted.partitions(found.id, found.count, found.partitions):
            return None
        chunk = self._retrying(lambda: self._store.chunk(found.id))
        if chunk is None:
            if self._retrying(
                lambda: self._store.was_put_together(self._flow, self._source, found.id)
            ):
                raise _PutTogetherError
            raise self._forgotten(found.id)
        try:
            return open_piece(chunk, found.id, wanted)
        except FatalError as error:
            if error.code == ARCHIVE_DAMAGED:
                self._retrying(lambda: self._store.mark(found.id, DAMAGED))
            raise

    def _retrying(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer: a state store that is away, or locked, comes back."""
        backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
        while True:
            try:
                answer = ask()
            except RetryableError as error:
                self._status = f"state store: {error.message}"
                if self._stop.wait(backoff.longer()):
                    raise
            else:
                self._status = ""
                return answer

    def _forgotten(self, chunk: int) -> FatalError:
        return FatalError(
            f"chunk {chunk} of the archive of {self._source} was forgotten while it was being read.",
            code="archive_forgotten",
            hint="It was past archive.retention or over archive.max_size. What is resumed goes on behind"
            " it, without its events.",
            chunk=chunk,
        )
