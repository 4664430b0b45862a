"""What all tests of a source share: the system under test, opening it, reading it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from connectors.batch import Batch, Position
from connectors.contracts import Opening, Reader, Shard, Source
from connectors.testing.waiting import expect

Positions = Mapping[str, Position]


class SourceUnderTest(Protocol):
    """A source and its upstream. Made anew, and empty, for each test."""

    source: Source
    # opening: Mapping[str, Any] - optional: what else of an Opening the source needs, such as the
    # inbox that its events are pushed to.
    # begins: Positions - optional: where it is read from on its first start, for sources that begin
    # with what comes after that.

    def emit(self, count: int) -> None:
        """Make events upstream, numbered on from 0 through all calls; several keys if it has any.

        In as few upstream transactions as it can: positions inside of one matter most.
        """

    def numbers(self, batch: Batch) -> Sequence[int]:
        """Return the number of each event in the batch."""

    def acknowledged(self) -> int | None:
        """Return how many events the upstream regards as done with; None where it can't tell."""


class Taken(NamedTuple):
    """One event as it was read."""

    number: int
    key: str | None
    partition: str
    position: Position


class SourceReading:
    """Opens, reads and closes a source within bounds."""

    patience = 30.0
    """Seconds that events and acknowledgements may take to come."""
    leaving = 5.0
    """Seconds that threads and connections may take to be gone after closing."""
    silence = 1.0
    """Seconds in which nothing may be acknowledged that should not be."""

    @contextmanager
    def _reading(
        self,
        subject: SourceUnderTest,
        positions: Positions | None = None,
        *,
        until_caught_up: bool = False,
    ) -> Iterator[Reader]:
        more = getattr(subject, "opening", {})
        begins = dict(positions or getattr(subject, "begins", {}))
        opening = Opening(Shard(), begins, until_caught_up=until_caught_up, **more)
        reader = subject.source.open(opening)
        try:
            yield reader
        finally:
            started = time.monotonic()
            reader.close()
            took = time.monotonic() - started
        expect(took < 5, f"close is done within 5 s, not after {took:.1f} s")

    def _poll(self, reader: Reader, limit: int) -> Batch:
        """Return the next batch with events in it."""
        deadline = time.monotonic() + self.patience
        while True:
            left = deadline - time.monotonic()
            expect(left > 0, f"an event comes within {self.patience:g} s; {reader.status()}")
            batch = reader.poll(limit, left)
            if batch is not None and batch.size:
                return batch

    def _take(self, subject: SourceUnderTest, reader: Reader, count: int) -> list[Taken]:
        """Read `count` events, and see that no more are there."""
        taken: list[Taken] = []
        while len(taken) < count:
            taken += taken_of(subject, self._poll(reader, 1000))
        more = reader.poll(10, 0.2)
        # A batch of size 0 moves the checkpoint alone.
        surplus = list(subject.numbers(more)) if more is not None and more.size else []
        expect(not surplus, f"{count} events come and no more; there came {surplus} too")
        return taken


def taken_of(subject: SourceUnderTest, batch: Batch) -> list[Taken]:
    """Return the events of a batch."""
    columns = (
        subject.numbers(batch),
        batch.column("key"),
        batch.column("partition"),
        batch.column("position"),
    )
    return [Taken(*entry) for entry in zip(*columns, strict=True)]


def expect_order(taken: Sequence[Taken]) -> None:
    """Raise AssertionError unless the events of each key are in order."""
    last: dict[str | None, int] = {}
    for event in taken:
        if event.key is None:
            continue
        before = last.get(event.key, -1)
        expect(before < event.number, f"{event.number} came after {before} of key {event.key}")
        last[event.key] = event.number
