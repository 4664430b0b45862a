"""The fetcher: a thread that reads a group's entries into the buffer, on a connection of its own.

After each connect it first reads what is pending for this consumer: what was handed over before a
crash, and what the server has sent and no one received. Then new entries, and now and then what
consumers that are gone have left. All on one thread, so that nothing is read twice over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from connectors.redis_stream.buffer import Buffer, Stream, entries_of
from connectors.redis_stream.connection import Link
from connectors.redis_stream.entries import EntryId, order_of
from connectors.redis_stream.failures import is_missing_group
from connectors.redis_stream.group import (
    ensure_group,
    group_facts,
    log,
    missed,
    stream_facts,
)
from connectors.redis_stream.link_thread import LinkThread
from connectors.redis_stream.settings import RedisStreamSource, start_id

_AT_ONCE = 1000
_FETCH_BYTES = 8 * 1024 * 1024
BLOCK = 1000
"""Milliseconds that a read waits for a first entry; below the connection's timeout."""

LOOKS = 9
"""How often within `claim_after` it is looked for what consumers that are gone have left."""


class Fetcher:
    """One reader's thread; see the module's text."""

    def __init__(
        self,
        link: Link,
        settings: RedisStreamSource,
        consumer: str,
        streams: Sequence[Stream],
        buffer: Buffer,
        *,
        bounded: bool,
        acknowledge: Callable[[], None],
        fetchers: int = 1,
    ) -> None:
        """`acknowledge` is told that there is something to acknowledge.

        `fetchers`: how many share the buffer, and the number of entries on their way.
        """
        self._link = link
        self._settings = settings
        self._consumer = consumer
        self._streams = streams
        self._buffer = buffer
        self._bounded = bounded
        self._acknowledge = acknowledge
        self._fetchers = fetchers
        self._in_flight = max(1, settings.max_in_flight // fetchers)
        self._by_name = {stream.name.encode(): stream for stream in streams}
        self._count = 100
        self._claim_due = 0.0
        self.at_end = False
        self.thread = LinkThread(f"redis-fetch-{settings.group}", link, self._fetch, buffer.wake)

    def stop(self) -> None:
        """Have the thread end; does not wait for it."""
        self.thread.ask_to_end()
        self._buffer.close()
        self._link.interrupt()

    def close(self, until: float) -> None:
        """Wait for the thread's end, until that time at the latest, and disconnect."""
        self.thread.join(max(0.0, until - time.monotonic()))
        self._link.close()

    def _fetch(self) -> bool:
        if not self.thread.closing:
            self._prepare()
            self.thread.is_well()
            self._read()
        return True

    def _prepare(self) -> None:
        settings = self._settings
        for stream in self._streams:
            start = start_id(settings.start)
            ensure_group(self._link, stream.name, settings.group, start=start, known=stream.known)
            self._look_for_gap(stream)
        for stream in self._streams:
            self._read_own(stream)

    def _look_for_gap(self, stream: Stream) -> None:
        facts = stream_facts(self._link, stream.name)
        group = group_facts(self._link, stream.name, self._settings.group)
        if facts is None or group is None:
            return
        lost = missed(facts, group)
        if lost:
            log.warning(
                "redis_entries_trimmed",
                stream=stream.name,
                group=self._settings.group,
                entries=lost,
                behind=group.last_delivered.decode(),
                hint="They were removed before this group has read them: keep more of the stream"
                " (MAXLEN, MINID), or read faster.",
            )

    # --- what is pending for this consumer --------------------------------------------------------

    def _read_own(self, stream: Stream) -> None:
        """Read what is pending for this consumer and not in our hands."""
        settings = self._settings
        behind: EntryId = b"0"
        removed: list[EntryId] = []
        while not self.thread.closing and self._has_room():
            # Before asking: what is acknowledged meanwhile must not be taken for new.
            held = stream.progress.held() | self._buffer.held(stream)
            answer = self._link.call(
                *("XREADGROUP", "GROUP", settings.group, self._consumer),
                *("COUNT", self._count, "STREAMS", stream.name, behind),
            )
            raw = answer[0][1] if answer else []
            if not raw:
                break
            behind = raw[-1][0]
            entries, gone = entries_of(raw)
            removed += [entry for entry in gone if entry not in held]
            self._take(stream, [each for each in entries if each[0] not in held])
        self._tell_removed(stream, removed)

    def _take(self, stream: Stream, entries: list[tuple[EntryId, list[bytes]]]) -> None:
        """Hand entries over that were delivered before, but those that are settled already."""
        if stream.settled:
            done = [entry for entry, _ in entries if entry in stream.settled]
            if done:
                stream.progress.leave_out(done)
                self._acknowledge()
                entries = [each for each in entries if each[0] not in stream.settled]
        if entries:
            self._put(stream, entries)

    def _tell_removed(self, stream: Stream, removed: list[EntryId]) -> None:
        if not removed:
            return
        log.warning(
            "redis_entries_trimmed",
            stream=stream.name,
            group=self._settings.group,
            entries=len(removed),
            first=removed[0].decode(),
            last=removed[-1].decode(),
            hint="They were delivered and not worked off before they were removed: keep more of the"
            " stream (MAXLEN, MINID).",
        )
        stream.progress.leave_out(removed)
        self._acknowledge()

    # --- what is new, and what others have left ---------------------------------------------------

    def _read(self) -> None:
        settings = self._settings
        self._claim_due = min(self._claim_due, time.monotonic() + settings.claim_after / LOOKS)
        while not self.thread.closing:
            if not self._has_room():
                return
            if time.monotonic() >= self._claim_due:
                self._claim_due = time.monotonic() + settings.claim_after / LOOKS
                for stream in self._streams:
                    self._claim(stream)
            if self._bounded and self._is_through():
                self.at_end = True
                self._buffer.wake()
                return
            try:
                self._read_new()
            except ResponseError as error:
                if not is_missing_group(error):
                    raise
                for stream in self._streams:
                    start = start_id(settings.start)
                    ensure_group(
                        self._link, stream.name, settings.group, start=start, known=stream.known
                    )

    def _read_new(self) -> None:
        reading = [stream for stream in self._streams if not stream.ended]
        names = [stream.name for stream in reading]
        count = max(1, min(self._count, self._room()) // len(names))
        # A read that does not wait answers at once that there is nothing: the end, if bounded.
        block = () if self._bounded else ("BLOCK", BLOCK)
        answer = self._link.call(
            *("XREADGROUP", "GROUP", self._settings.group, self._consumer, "COUNT", count),
            *block,
            *("STREAMS", *names, *[">"] * len(names)),
        )
        found = dict(answer or ())
        if self._bounded:
            for stream in reading:  # perhaps its last entries have been removed
                stream.ended = stream.name.encode() not in found
        for name, raw in found.items():
            stream = self._by_name[name]
            stream.known = raw[-1][0]
            entries = raw
            if stream.end is not None:
                end = order_of(stream.end)
                entries = [each for each in raw if order_of(each[0]) <= end]
            if entries:
                self._put(stream, entries)

    def _put(self, stream: Stream, entries: list[Any]) -> None:
        last = entries[-1][0]
        if stream.known is None or order_of(last) > order_of(stream.known):
            stream.known = last
        weight = self._buffer.put(stream, entries)
        self._count = max(1, min(_AT_ONCE, _FETCH_BYTES * len(entries) // (weight + 1)))

    def _is_through(self) -> bool:
        """Whether the group has been given all that was there at the beginning."""
        for stream in self._streams:
            if stream.ended or stream.end is None:
                continue
            group = group_facts(self._link, stream.name, self._settings.group)
            stream.ended = group is None or order_of(group.last_delivered) >= order_of(stream.end)
        return all(stream.ended for stream in self._streams)

    def _claim(self, stream: Stream) -> None:
        """Take over what has shown no sign of life for `claim_after`."""
        cursor: EntryId = b"0-0"
        idle = int(self._settings.claim_after * 1000)
        claimed = 0
        while not self.thread.closing and self._has_room():
            held = stream.progress.held() | self._buffer.held(stream)
            try:
                answer = self._link.call(
                    *("XAUTOCLAIM", stream.name, self._settings.group, self._consumer, idle),
                    *(cursor, "COUNT", min(self._count, 100)),
                )
            except ResponseError as error:
                if is_missing_group(error):
                    return
                raise
            cursor, raw = answer[0], answer[1]
            entries, removed = entries_of(raw)
            if len(answer) > 2:  # Redis 7: it has let go of them already
                removed += answer[2]
            entries = [each for each in entries if each[0] not in held]
            claimed += len(entries)
            self._tell_removed(stream, [entry for entry in removed if entry not in held])
            self._take(stream, entries)
            if cursor == b"0-0":
                break
        if claimed:
            log.info(
                "redis_entries_claimed",
                stream=stream.name,
                group=self._settings.group,
                entries=claimed,
                consumer=self._consumer,
            )

    # --- backpressure -----------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Wait until more may be read; False when closing."""
        with self._buffer.changed:
            while not self.thread.closing and self._room() <= 0:
                self._buffer.changed.wait(0.5)
        return not self.thread.closing

    def _room(self) -> int:
        """Return how many more entries may be read: ahead, and not acknowledged."""
        held = sum(stream.progress.size + stream.waiting for stream in self._streams)
        return min(self._buffer.room() // self._fetchers, self._in_flight - held)
