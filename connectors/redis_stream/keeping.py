"""The keeper: a thread that acknowledges what is settled, on a connection of its own.

It also keeps entries fresh that are on their way, so that no other consumer claims them from a worker
that lives, however long a step takes; and asks how far the group is behind. It never waits for
the dataflow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from redis.exceptions import RedisError

from connectors.redis_stream.buffer import Buffer, Stream
from connectors.redis_stream.connection import Argument, Link
from connectors.redis_stream.entries import EntryId
from connectors.redis_stream.group import group_facts, log
from connectors.redis_stream.link_thread import LinkThread
from connectors.redis_stream.settings import RedisStreamSource

_AT_ONCE = 1000
"""Ids in one command."""

_COMMANDS = 16
"""Commands that are sent before their answers are read."""

_LAG_EVERY = 2.0


class Keeper:
    """One reader's second thread; see the module's text."""

    def __init__(
        self,
        link: Link,
        settings: RedisStreamSource,
        consumer: str,
        *,
        streams: Sequence[Stream],
        told: Sequence[Stream],
        buffer: Buffer,
    ) -> None:
        """`told`: the streams whose lag this worker tells."""
        self._link = link
        self._settings = settings
        self._consumer = consumer
        self._streams = streams
        self._told = told
        self._buffer = buffer
        self._work = threading.Event()
        self._refresh_every = settings.claim_after / 3
        self._refreshed = time.monotonic()
        self._lag_due = 0.0
        self.thread = LinkThread(f"redis-keep-{settings.group}", link, self._keep, buffer.wake)

    def acknowledge(self) -> None:
        """Acknowledge soon what is settled."""
        self._work.set()

    def stop(self) -> None:
        """Have the thread acknowledge what is settled, and end; does not wait for it."""
        self.thread.ask_to_end()
        self._work.set()

    def close(self, until: float) -> None:
        """Wait for the thread's end, until that time and a second at the latest, and disconnect."""
        if not self.thread.join(max(0.0, until - time.monotonic())):
            self._link.interrupt()
            self.thread.join(max(0.0, until + 1 - time.monotonic()))
        self._link.close()

    def _keep(self) -> bool:
        if not self.thread.status:  # else this is the next try of what did not succeed
            self._work.wait(max(0.0, self._next_due() - time.monotonic()))
        self._work.clear()
        closing = self.thread.closing
        self._acknowledge()
        if not closing:
            self._duties()
            self.thread.is_well()
        return closing

    def _next_due(self) -> float:
        due = self._refreshed + self._refresh_every
        return min(due, self._lag_due) if self._told else due

    def _acknowledge(self) -> None:
        group = self._settings.group
        for stream in self._streams:
            while ids := stream.progress.to_acknowledge()[: _AT_ONCE * _COMMANDS]:
                commands: list[list[Argument]] = [
                    ["XACK", stream.name, group, *part] for part in _parts(ids)
                ]
                for answer in self._link.calls(commands):
                    if isinstance(answer, RedisError):
                        raise answer
                stream.progress.acknowledged(len(ids))

    def _duties(self) -> None:
        now = time.monotonic()
        if now >= self._refreshed + self._refresh_every:
            for stream in self._streams:
                self._refresh(stream, now)
            self._refreshed = now
        if self._told and now >= self._lag_due:
            self._lag_due = now + _LAG_EVERY
            for stream in self._told:
                facts = group_facts(self._link, stream.name, self._settings.group)
                stream.behind = None if facts is None else facts.lag

    def _refresh(self, stream: Stream, now: float) -> None:
        """Tell the server that what has been on its way for a while still is."""
        before = now - self._refresh_every / 2
        ids = stream.progress.held_since(before) + self._buffer.held_since(stream, before)
        if not ids:
            return
        if now - self._refreshed > self._settings.claim_after * 0.8:
            # Others may have claimed some from us: those are theirs now.
            own = self._pending(stream)
            ids = [entry for entry in ids if entry in own]
        group, consumer = self._settings.group, self._consumer
        commands: list[list[Argument]] = [
            ["XCLAIM", stream.name, group, consumer, 0, *part, "JUSTID"] for part in _parts(ids)
        ]
        for at in range(0, len(commands), _COMMANDS):
            for answer in self._link.calls(commands[at : at + _COMMANDS]):
                if isinstance(answer, RedisError):
                    if "NOGROUP" in str(answer):
                        return  # the fetcher makes it anew
                    raise answer

    def _pending(self, stream: Stream) -> set[EntryId]:
        found: set[EntryId] = set()
        start = "-"
        while True:
            rows = self._link.call(
                *("XPENDING", stream.name, self._settings.group, start, "+", _AT_ONCE),
                self._consumer,
            )
            found.update(row[0] for row in rows)
            if len(rows) < _AT_ONCE:
                log.info("redis_was_silent", stream=stream.name, still_ours=len(found))
                return found
            start = "(" + rows[-1][0].decode()


def _parts(ids: Sequence[EntryId]) -> list[Sequence[EntryId]]:
    return [ids[at : at + _AT_ONCE] for at in range(0, len(ids), _AT_ONCE)]
