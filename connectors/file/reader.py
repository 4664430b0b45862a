"""Reads files ahead on a thread: finds them, follows them through renames, and notices what is gone.

A followed file stays open, so that what is behind our place is read to its end when it is renamed or
deleted. Files that are not followed, and compressed ones, are read to their end and closed.
"""

from __future__ import annotations

import glob
import os
import stat
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog

from connectors.batch import Batch, Column, Position
from connectors.contracts import EndOfSource, Lag, Opening
from connectors.errors import FatalError, PenstockError
from connectors.file.columns import Columns
from connectors.file.content import Content
from connectors.file.places import (
    Place,
    elsewhere,
    encode,
    identity,
    is_of,
    is_partition,
    newest,
    next_generation,
)
from connectors.file.records import Records
from connectors.file.settings import FileSourceSettings
from connectors.threads import watched

AHEAD = 6
"""Chunks that are read ahead."""

MOST_OPEN = 256
"""Followed files that stay open; beyond, those that did not grow are closed until they do."""

log = structlog.get_logger("penstock.file")


@dataclass(slots=True)
class _Tracked:
    """One file: where it was left, and its content while it is open."""

    partition: str
    place: Place
    path: str
    size: int = 0
    content: Content | None = None
    is_done: bool = False
    """Read to its end, for as long as its size stays."""
    until: int | None = None
    trouble: str = ""
    unseen: int = 0
    """Looks in a row that did not find it."""


@dataclass(slots=True)
class _Chunk:
    """Records of one file, of which `at` have been handed over."""

    tracked: _Tracked
    path: str
    partition: str
    header: tuple[str, ...]
    records: Records
    head: Content
    seen_ms: int
    at: int = 0


class FileReader:
    """See `connectors.contracts.Reader`."""

    def __init__(self, settings: FileSourceSettings, columns: Columns, opening: Opening) -> None:
        self._settings = settings
        self._columns = columns
        self._shard = opening.shard
        self._positions = {k: v for k, v in opening.positions.items() if is_partition(k)}
        self._is_first = not self._positions
        self._open = 0
        """Files that are open now."""
        self._bounded = opening.until_caught_up or not settings.follow
        self._to_the_end = not settings.follow
        self._files: dict[str, _Tracked] = {}
        self._told: set[str] = set()
        self._status = ""
        self._failed: PenstockError | None = None
        self._at_end = False
        self._queue: deque[_Chunk] = deque()
        self._condition = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(
            target=watched("reading files", self._run, self._fail), name="files", daemon=True
        )
        self._thread.start()

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over records; see the contract."""
        with self._condition:
            if not self._queue and timeout:
                self._condition.wait_for(
                    lambda: self._queue or self._at_end or self._failed is not None, timeout
                )
            parts: list[tuple[_Chunk, int, int]] = []
            left = limit
            while self._queue and left:
                chunk = self._queue[0]
                count = min(left, len(chunk.records) - chunk.at)
                parts.append((chunk, chunk.at, chunk.at + count))
                chunk.at += count
                left -= count
                if chunk.at == len(chunk.records):
                    self._queue.popleft()
            if parts:
                self._condition.notify_all()
            elif self._failed is not None:
                raise self._failed
            elif self._at_end:
                raise EndOfSource
            else:
                return None
        return self._batch(parts)

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Nobody is told: the checkpoint is all there is."""

    def owns(self, partition: str) -> bool:
        """Whether the file is this shard's."""
        return is_partition(partition) and is_of(self._shard, partition)

    def lag(self) -> Mapping[str, Lag]:
        """Return the bytes of each file that have not been read ahead."""
        return {
            each.partition: Lag(bytes=max(0, each.size - each.place.offset))
            for each in list(self._files.values())
            if not each.is_done
        }

    def status(self) -> str:
        """Return "" or what is wrong with a file."""
        if self._status:
            return self._status
        return next((each.trouble for each in list(self._files.values()) if each.trouble), "")

    def close(self) -> None:
        """Stop the thread and close the files."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(4.5)

    def _batch(self, parts: list[tuple[_Chunk, int, int]]) -> Batch:
        wires: list[bytes] = []
        ends: list[int] = []
        lines: list[int] = []
        partitions: list[str] = []
        paths: list[str] = []
        seen: list[int] = []
        headers: list[tuple[str, ...]] = []
        after: dict[str, Position] = {}
        for chunk, first, last in parts:
            records, count = chunk.records, last - first
            wires += records.texts[first:last]
            ends += records.ends[first:last]
            lines += records.numbers[first:last]
            partitions += [chunk.partition] * count
            paths += [chunk.path] * count
            seen += [chunk.seen_ms] * count
            headers += [chunk.header] * count
            if last == len(records):
                place = Place(records.end, records.lines)
            else:
                place = Place(records.ends[last - 1], records.numbers[last] - 1)
            after[chunk.partition] = encode(chunk.head.mark(place)._replace(seen_ms=chunk.seen_ms))
        columns: dict[str, Column] = {
            "wire": wires,
            "partition": partitions,
            "file.path": paths,
            "file.end": ends,
            "file.line": lines,
            "file.seen": seen,
        }
        if self._settings.format == "csv":
            columns["file.header"] = headers
        weight = sum(map(len, wires))
        return Batch(len(wires), columns, after=after, makers=self._columns.makers, weight=weight)

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        except PenstockError as error:
            self._fail(error)
        finally:
            for tracked in self._files.values():
                self._close(tracked)

    def _fail(self, error: PenstockError) -> None:
        with self._condition:
            self._failed = error
            self._condition.notify_all()

    def _work(self) -> None:
        looked = False
        while not self._closing:
            if not looked or not self._bounded:
                self._look()
                looked = True
            got = False
            for tracked in list(self._files.values()):
                got |= self._read(tracked)
                if self._closing:
                    return
            if got:
                continue
            if self._bounded:
                with self._condition:
                    self._at_end = True
                    self._condition.notify_all()
                return
            self._forget_the_gone()
            with self._condition:
                self._condition.wait_for(lambda: self._closing, self._settings.poll_interval)

    def _look(self) -> None:
        """Find the files there are now."""
        found = set()
        trouble = ""
        for path in sorted(glob.iglob(self._settings.path, recursive=True)):  # noqa: PTH207 - may be absolute
            try:
                status = os.stat(path)  # noqa: PTH116 - one of many
                if not stat.S_ISREG(status.st_mode):
                    continue
                file = identity(status.st_dev, status.st_ino)
                if not is_of(self._shard, file):
                    continue
                found.add(file)
                tracked = self._files.get(file)
                if tracked is None:
                    tracked = self._files[file] = self._begin(path, file, status)
                elif status.st_size != tracked.size:
                    tracked.is_done, tracked.trouble = False, ""
                tracked.path, tracked.size, tracked.unseen = path, status.st_size, 0
            except FileNotFoundError:
                continue  # it has gone since
            except OSError as error:
                trouble = f"{path} can't be read: {error.strerror}"
                self._tell_unreadable(path, error)
        self._status = trouble
        for file, tracked in self._files.items():
            if file not in found:
                tracked.unseen += 1
        self._is_first = False

    def _begin(self, path: str, file: str, status: os.stat_result) -> _Tracked:
        """Return a file that was not known in this process, at the place where it was left."""
        fresh = Place(0, 0, None, int(status.st_mtime * 1000))
        partition, place = file, fresh
        content = Content(path, file, fresh, self._settings)
        try:
            known = newest(self._positions, file)
            for name, left in [known] if known else elsewhere(self._positions, file):
                if content.is_still(left) and (known or left.fingerprint):
                    partition = name if known else file
                    place = left._replace(seen_ms=left.seen_ms or fresh.seen_ms)
                elif known:
                    partition = next_generation(name)
                    log.warning("file_replaced", path=path, partition=partition)
            if place is fresh and self._is_first and self._settings.start == "end":
                place = _at_the_end(content, status.st_size, fresh)
            content.partition = partition
            content.go_to(place)
        except BaseException:
            content.close()
            raise
        tracked = _Tracked(partition, place, path, status.st_size, content)
        self._open += 1
        if self._bounded and not self._to_the_end and not content.is_compressed:
            tracked.until = status.st_size
        # Where it begins, as a position without an event: so its time and its beginning are known to a restart.
        self._put(tracked, content, Records([], [], [], place.lines, place.offset))
        if self._open > MOST_OPEN:
            self._close(tracked)
        return tracked

    def _read(self, tracked: _Tracked) -> bool:
        """Read what there is of a file, but no more than a few chunks; return whether there was any."""
        if tracked.is_done:
            return False
        got = False
        try:
            content = tracked.content or self._open_again(tracked)
            if content.was_rewritten():
                content = self._begin_anew(tracked)
            whole = self._to_the_end or content.is_compressed
            for _ in range(AHEAD):
                records = content.next(to_the_end=whole, until=tracked.until)
                if records is None:
                    self._ended(tracked, content)
                    break
                got = True
                tracked.place = content.place
                if not self._put(tracked, content, records):
                    break
        except FileNotFoundError:
            log.warning("file_vanished", path=tracked.path, read=tracked.place.offset)
            tracked.is_done = True
        except OSError as error:
            self._tell_unreadable(tracked.path, error)
            tracked.trouble = f"{tracked.path} can't be read: {error.strerror}"
            self._close(tracked)
        return got

    def _tell_unreadable(self, path: str, error: OSError) -> None:
        """Tell it once. Raises FatalError where nobody would try again."""
        if self._bounded:
            raise FatalError(
                f"{path} can't be read: {error.strerror}.",
                code="file_unreadable",
                hint="What was read of it before is kept; the next run goes on there.",
            ) from error
        if path not in self._told:
            self._told.add(path)
            log.warning("file_unreadable", path=path, error=error.strerror)

    def _ended(self, tracked: _Tracked, content: Content) -> None:
        """Note that there is no more of a file for now."""
        tracked.is_done = True
        if content.is_cut_off:
            tracked.trouble = f"{tracked.path} ends in the middle of its compressed stream"
            if tracked.path not in self._told:
                self._told.add(tracked.path)
                log.warning("file_cut_off", path=tracked.path)
        if self._bounded or content.is_compressed or self._open > MOST_OPEN:
            self._close(tracked)

    def _open_again(self, tracked: _Tracked) -> Content:
        content = Content(tracked.path, tracked.partition, tracked.place, self._settings)
        tracked.content = content
        self._open += 1
        if not content.is_still(tracked.place):
            return self._begin_anew(tracked)
        content.go_to(tracked.place)
        return content

    def _begin_anew(self, tracked: _Tracked) -> Content:
        """Read a file from its beginning that was cut off: what was behind our place is lost, if any."""
        log.warning("file_truncated", path=tracked.path, read=tracked.place.offset)
        self._close(tracked)
        tracked.partition = next_generation(tracked.partition)
        status = os.stat(tracked.path)  # noqa: PTH116 - as above
        tracked.place = Place(0, 0, None, int(status.st_mtime * 1000))
        tracked.content = Content(tracked.path, tracked.partition, tracked.place, self._settings)
        self._open += 1
        tracked.content.go_to(tracked.place)
        return tracked.content

    def _forget_the_gone(self) -> None:
        """Let go of files that have been read to the end and are not found any more."""
        for file, tracked in list(self._files.items()):
            if tracked.unseen < 2:
                continue
            if tracked.content is not None and not tracked.is_done:
                continue
            if tracked.content is not None:
                size = os.fstat(tracked.content.fileno()).st_size
                if size > tracked.size:  # somebody still writes to it under another name
                    tracked.size, tracked.is_done = size, False
                    continue
                if not tracked.content.is_compressed and size > tracked.place.offset:
                    log.warning(
                        "file_last_line_open",
                        path=tracked.path,
                        bytes=size - tracked.place.offset,
                    )
            self._close(tracked)
            # It may come back, and other content may get its inode: the place tells which.
            self._positions[tracked.partition] = encode(tracked.place)
            del self._files[file]

    def _close(self, tracked: _Tracked) -> None:
        content, tracked.content = tracked.content, None
        if content is not None:
            self._open -= 1
            tracked.place = content.mark(tracked.place)
            content.close()

    def _put(self, tracked: _Tracked, content: Content, records: Records) -> bool:
        """Queue records; wait while enough is queued. False when it is closing."""
        chunk = _Chunk(
            tracked,
            tracked.path,
            tracked.partition,
            content.header,
            records,
            content,
            content.place.seen_ms or 0,
        )
        with self._condition:
            self._condition.wait_for(
                lambda: self._closing or len(self._queue) < AHEAD or not len(records)
            )
            if self._closing:
                return False
            self._queue.append(chunk)
            self._condition.notify_all()
        return True


def _at_the_end(content: Content, size: int, fresh: Place) -> Place:
    """Return the place behind the last whole line, its number unknown."""
    offset = 0
    for start in _backwards(size):
        found = os.pread(content.fileno(), size - start, start).rfind(b"\n")
        if found >= 0:
            offset = start + found + 1
            break
    return fresh._replace(offset=offset)


def _backwards(size: int) -> Iterator[int]:
    step = 65536
    while step < size:
        yield size - step
        step *= 4
    yield 0
