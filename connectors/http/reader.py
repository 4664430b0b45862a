"""Reads an inbox: what has been kept for a source, until it is settled and forgotten.

A thread looks for new events: at once after it has found some, later and later while there are none.
It also deletes what is settled, some of it at a time: a row that stays a moment longer harms nobody, for
what is behind the checkpoint is never handed out again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import orjson

from connectors.batch import Batch, Position
from connectors.contracts import LANES, EndOfSource, Inbox, Lag, Opening, Taken
from connectors.errors import PenstockError, RetryableError
from connectors.threads import watched

MOST, HEAVIEST = 4000, 64 << 20
"""Events, and bytes of them, that are read ahead."""

SOONEST, LATEST = 0.004, 0.05
"""Seconds between two looks: after an event, and when there has been none for a while."""

FORGET_EVERY = 0.2
"""Seconds between two deletions."""


def partition_of(lane: int) -> str:
    """Return the source partition of a lane."""
    return f"{lane:02d}"


def position_of(number: int) -> Position:
    """Return the position of an event."""
    return f"{number:020d}"


class InboxReader:
    """See `connectors.contracts.Reader`."""

    def __init__(self, inbox: Inbox, opening: Opening) -> None:
        self._inbox = inbox
        self._shard = opening.shard
        self._settled = {
            int(partition): int(position)
            for partition, position in opening.positions.items()
            if partition.isdigit() and self.owns(partition)
        }
        self._begins = dict(self._settled)
        self._cursor = 0
        self._limit = 64
        self._until: int | None = None
        self._queue: deque[Taken] = deque()
        self._weight = 0
        self._at_end = False
        self._status = ""
        self._failed: PenstockError | None = None
        self._closing = False
        self._condition = threading.Condition()
        self._looks = opening.until_caught_up
        self._thread = threading.Thread(
            target=watched("reading the inbox", self._run, self._fail), name="inbox", daemon=True
        )
        self._thread.start()

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over what has come; see the contract."""
        with self._condition:
            if not self._queue and not self._at_end and self._failed is None and timeout:
                self._condition.wait_for(
                    lambda: self._queue or self._at_end or self._failed is not None, timeout
                )
            if not self._queue:
                if self._failed is not None:
                    raise self._failed
                if self._at_end:
                    raise EndOfSource
                return None
            taken = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
            self._weight -= sum(map(_weight, taken))
            self._condition.notify_all()
        return batch_of(taken)

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Have what is settled deleted, soon."""
        with self._condition:
            for partition, position in positions.items():
                self._settled[int(partition)] = int(position)

    def owns(self, partition: str) -> bool:
        """Whether the lane is this shard's."""
        return self._shard.takes(int(partition)) if partition.isdigit() else False

    def lag(self) -> Mapping[str, Lag]:
        """Return how many events of each lane wait to be handed over, as far as they are read."""
        with self._condition:
            waiting = Counter(each.lane for each in self._queue)
        lanes = [lane for lane in range(LANES) if self._shard.takes(lane)]
        return {partition_of(lane): Lag(events=waiting[lane]) for lane in lanes}

    def status(self) -> str:
        """Return what it waits for, or ""."""
        return self._status

    def close(self) -> None:
        """Stop the thread; what is settled and not yet deleted is deleted first, if that can be."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(4.5)

    def _run(self) -> None:
        try:
            self._work()
        except PenstockError as error:
            self._fail(error)
        finally:
            self._inbox.close()

    def _fail(self, error: PenstockError) -> None:
        with self._condition:
            self._failed = error
            self._condition.notify_all()

    def _work(self) -> None:
        pause, forgotten = SOONEST, 0.0
        while True:
            with self._condition:
                closing = self._closing
                settled: dict[int, int] = {}
                if closing or time.monotonic() - forgotten >= FORGET_EVERY:
                    settled, self._settled = self._settled, {}
            try:
                if settled:
                    self._inbox.forget(settled)
                    forgotten = time.monotonic()
                if closing:
                    return
                found = self._look()
                self._status = ""
            except RetryableError as error:
                self._status = f"inbox: {error.message}"
                if closing:
                    return
                with self._condition:
                    self._settled = {**settled, **self._settled}
                    self._condition.wait(0.5)
                continue
            pause = SOONEST if found else min(pause * 1.5, LATEST)
            with self._condition:
                if not self._closing and (not found or self._is_full()):
                    self._condition.wait_for(lambda: self._closing, pause)

    def _look(self) -> bool:
        """Read what is new; return whether there was anything."""
        if self._looks and self._until is None:
            self._until = self._inbox.last()
        with self._condition:
            if self._is_full() or self._at_end:
                return False
        rows = self._inbox.take(self._cursor, self._limit)
        if self._until is not None:
            rows = [row for row in rows if row.number <= self._until]
        if rows:
            self._cursor = rows[-1].number
            # So many that another lot like this would not be too heavy; a first look is a small one.
            each = max(1, sum(map(_weight, rows)) // len(rows))
            self._limit = max(16, min(1000, 2 * self._limit, HEAVIEST // 4 // each))
        begins = self._begins
        fresh = [row for row in rows if row.number > begins.get(row.lane, 0)]
        with self._condition:
            self._queue.extend(fresh)
            self._weight += sum(map(_weight, fresh))
            self._at_end = self._until is not None and not rows
            if fresh or self._at_end:
                self._condition.notify_all()
        return bool(rows)

    def _is_full(self) -> bool:
        return len(self._queue) >= MOST or self._weight >= HEAVIEST


def batch_of(taken: Sequence[Taken]) -> Batch:
    """Return the events as a batch."""
    heads = [orjson.loads(each.head) for each in taken]
    attributes = [head[0] for head in heads]
    after = {partition_of(each.lane): position_of(each.number) for each in taken}
    columns = {
        "raw": [each.raw for each in taken],
        "key": [head[1] for head in heads],
        "timestamp": [head[2] for head in heads],
        "partition": [partition_of(each.lane) for each in taken],
        "position": [position_of(each.number) for each in taken],
        **{
            name: [each.get(name) for each in attributes]
            for name in ("id", "source", "type", "time", "subject", "datacontenttype", "dataschema")
        },
        "extensions": [
            {name: value for name, value in each.items() if name not in _CORE}
            for each in attributes
        ],
    }
    return Batch(len(taken), columns, after=after, weight=sum(map(_weight, taken)))


_CORE = frozenset({"id", "source", "type", "time", "subject", "datacontenttype", "dataschema"})


def _weight(taken: Taken) -> int:
    return len(taken.head) + len(taken.raw or b"")
