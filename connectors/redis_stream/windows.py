"""Streams read by time: the entries of a window, without the group, so that live reading is left alone.

An entry's id begins with the time at which the server added it, and its event may have a time of its own:
see `connectors.windows.SLACK`. Streams are read one after the other. Each read begins at the last entry that
was read before, and finds it: where it does not, entries were trimmed that nobody has read.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from connectors.batch import Batch, Position
from connectors.contracts import EndOfSource, Gap, Lag, Shard, Survey, Window
from connectors.errors import FatalError, RetryableError
from connectors.progress import partition_of
from connectors.redis_stream.cluster import link_to
from connectors.redis_stream.connection import Link
from connectors.redis_stream.decoding import Format, Run, batch_of
from connectors.redis_stream.entries import EntryId, order_of
from connectors.redis_stream.failures import at_start, translated
from connectors.redis_stream.group import StreamFacts, refuse_cluster, stream_facts
from connectors.redis_stream.settings import RedisStreamSource
from connectors.windows import SLACK, shown, within

_BATCH_BYTES = 4 * 1024 * 1024
_AGAIN = 0.5
"""Seconds until a server that is away is asked again."""


@dataclass(slots=True)
class _Part:
    """A stream, as far as it was read."""

    name: str
    partition: str
    link: Link
    behind: EntryId | None
    most: int = 100
    """Entries that are asked for at once, by what they weighed before."""


class RedisWindowReader:
    """See `connectors.contracts.Reader`; opened with a window."""

    def __init__(self, parts: Sequence[_Part], window: Window, read_format: Format) -> None:
        self._parts = parts
        self._left = list(parts)
        self._window = window
        self._begin = b"%d" % max(0, window.since - int(SLACK * 1000))
        self._end = b"%d" % max(0, window.until + int(SLACK * 1000))
        self._format = read_format
        self._status = ""
        self._closed = threading.Event()

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over the next entries; see the contract."""
        if not self._left:
            raise EndOfSource
        part = self._left[0]
        try:
            entries = self._read(part, limit)
        except RedisError as error:
            known = translated(error, part.link.label, stream=part.name)
            if not isinstance(known, RetryableError):
                raise known from None
            self._status = known.message
            self._closed.wait(min(timeout, _AGAIN))
            return None
        self._status = ""
        if not entries:
            del self._left[0]
            return None
        return self._batch(part, entries)

    def _read(self, part: _Part, limit: int) -> list[tuple[EntryId, list[bytes]]]:
        """Return entries behind the last one. Raises RedisError, FatalError `redis_trimmed`."""
        begin = part.behind or self._begin
        count = min(limit, part.most) + (part.behind is not None)
        rows = part.link.call("XRANGE", part.name, begin, self._end, "COUNT", count)
        if part.behind is not None:
            if not rows or rows[0][0] != part.behind:
                raise _trimmed(part)
            rows = rows[1:]
        return [(entry, fields) for entry, fields in rows]

    def _batch(self, part: _Part, entries: list[tuple[EntryId, list[bytes]]]) -> Batch:
        ids = [entry for entry, _ in entries]
        part.behind = ids[-1]
        weight = sum([sum(map(len, fields)) for _, fields in entries])
        part.most = max(1, _BATCH_BYTES * len(entries) // (weight + 1))
        after = {part.partition: _encode(ids[-1])}
        batch = batch_of([Run(part.partition, entries, ids, 0)], after, self._format, weight)
        batch.columns["position"] = list(map(_encode, ids))
        return within(batch, self._window)

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Do nothing: there is no group."""

    def owns(self, partition: str) -> bool:
        """Whether the partition is of a stream that is read here."""
        return any(part.partition == partition for part in self._parts)

    def lag(self) -> Mapping[str, Lag]:
        """Know of none: what is read is past."""
        return {}

    def status(self) -> str:
        """Return "" or one line on a server that does not answer."""
        return self._status

    def close(self) -> None:
        """Disconnect."""
        self._closed.set()
        for part in self._parts:
            part.link.close()


def open_window(
    settings: RedisStreamSource,
    read_format: Format,
    shard: Shard,
    window: Window,
    positions: Mapping[str, Position],
    *,
    name: str,
) -> RedisWindowReader:
    """Connect, and read the window behind the positions. Raises FatalError."""
    parts: list[_Part] = []
    with contextlib.ExitStack() as opened:
        for turn, stream in enumerate(settings.streams):
            if not shard.takes(turn):
                continue
            link = link_to(settings, stream, name=name)
            opened.callback(link.close)
            partition = partition_of(stream, 0)
            stored = positions.get(partition)
            _ask(link, settings, stream)
            parts.append(
                _Part(stream, partition, link, None if stored is None else _decode(stored))
            )
        reader = RedisWindowReader(parts, window, read_format)
        opened.pop_all()
    return reader


def survey(settings: RedisStreamSource, window: Window, *, name: str) -> Survey:
    """Tell what the streams hold of a window. Of the events there are at most as many as entries.

    Raises FatalError.
    """
    events = 0
    times: list[int] = []
    gaps: list[Gap] = []
    for stream in settings.streams:
        link = link_to(settings, stream, name=name)
        try:
            facts = _ask(link, settings, stream)
            if facts is None:
                continue
            first = _edge(link, stream, "XRANGE", b"-", b"+")
            ends = b"%d" % window.since, b"%d" % (window.until - 1)
            inside = (
                _edge(link, stream, "XRANGE", *ends),
                _edge(link, stream, "XREVRANGE", *ends[::-1]),
            )
        except RedisError as error:
            raise at_start(error, link.label) from None
        finally:
            link.close()
        if inside[0] is not None:
            events += facts.length
            times += [at for at in inside if at is not None]
        gap = _gap(stream, facts, first, window)
        if gap is not None:
            gaps.append(gap)
    return Survey(
        events=events,
        bytes=None,
        first=min(times, default=None),
        last=max(times, default=None),
        gaps=tuple(gaps),
    )


def _ask(link: Link, settings: RedisStreamSource, stream: str) -> StreamFacts | None:
    """Return what is known of a stream; None where there is none. Raises FatalError."""
    try:
        if settings.cluster is None:
            refuse_cluster(link)
        return stream_facts(link, stream)
    except RedisError as error:
        raise at_start(error, link.label) from None


def _edge(link: Link, stream: str, command: str, begin: bytes, end: bytes) -> int | None:
    """Return the milliseconds of the first entry of a range, by the command's direction."""
    rows: Any = link.call(command, stream, begin, end, "COUNT", 1)
    return order_of(rows[0][0])[0] if rows else None


def _gap(stream: str, facts: StreamFacts, first: int | None, window: Window) -> Gap | None:
    """Return what may be missing of a window: entries were removed, and what is left begins within it."""
    if facts.added is not None and facts.added <= facts.length:
        return None
    last = order_of(facts.last)[0]
    if first is None and last < window.since:
        return None  # whatever there was, it was before
    until = window.until if first is None else min(window.until, first)
    if until <= window.since:
        return None
    left = "nothing is left of it" if first is None else f"it begins at {shown(first / 1000)}"
    many = (
        "entries may have been"
        if facts.added is None
        else f"{facts.added - facts.length:,} entries were"
    )
    return Gap(window.since, until, f"{stream}: {many} trimmed or deleted, {left}")


def _encode(entry: EntryId) -> Position:
    milliseconds, number = order_of(entry)
    return f"{milliseconds:020d}-{number:020d}"


def _decode(position: Position) -> EntryId:
    milliseconds, _, number = position.partition("-")
    return b"%d-%d" % (int(milliseconds), int(number))


def _trimmed(part: _Part) -> FatalError:
    behind = (part.behind or b"").decode()
    return FatalError(
        f"entry {behind} of the stream {part.name}, the last that was read, is not there any more: what came"
        " behind it may have been trimmed unread.",
        code="redis_trimmed",
        hint="Start anew for the time that is left, and have the stream keep more, or give the source an"
        " `archive:`.",
    )


__all__ = ["RedisWindowReader", "open_window", "survey"]
