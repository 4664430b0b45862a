"""What a source must live through: load, a kill, a network that fails, input that is no event.

These tests ask the system under test for more than the others; what it does not have is not tried. Its
members, each optional:

    recipe      Recipe: how another process makes the same source, to be killed there
    proxy       TroubledNetwork between `proxied` and the server
    proxied     the same source, with connections that go through `proxy`
    emit_raw    (payloads) → make one event upstream of each of these bodies, as they are
    largest     bytes that the upstream takes in one event; 10,000,000 unless it says less
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from connectors.batch import Batch, Position
from connectors.contracts import Opening, Reader, Shard
from connectors.testing.killing import DoomedReader, Recipe
from connectors.testing.reading import SourceReading, SourceUnderTest, Taken, taken_of
from connectors.testing.waiting import expect, wait_until

_LARGE = 10_000_000


class TroubledNetwork(Protocol):
    """A TCP proxy that can be told to misbehave, until `restore`."""

    def cut(self) -> None:
        """Break every connection and refuse new ones."""

    def stall(self) -> None:
        """Hold everything back, with connections open."""

    def latency(self, milliseconds: int) -> None:
        """Delay what the server sends."""

    def restore(self) -> None:
        """Be a plain proxy again."""


class SourceTroubles(SourceReading):
    """Part of SourceConformance."""

    trouble = 0.5
    """Seconds that a failure of the network lasts."""

    def test_it_stops_within_five_seconds_under_load(self, subject: SourceUnderTest) -> None:
        """Close it while events are being made; then all of them come to the next."""
        enough = threading.Event()
        emitted = 0

        def load() -> None:
            nonlocal emitted
            while not enough.is_set() and emitted < 200:
                subject.emit(20)
                emitted += 20

        loading = threading.Thread(target=load)
        with self._reading(subject) as reader:
            loading.start()
            self._poll(reader, 5)
        enough.set()
        loading.join(self.patience)
        expect(not loading.is_alive(), "making events ends")
        with self._reading(subject) as reader:
            numbers = sorted(event.number for event in self._take(subject, reader, emitted))
        expect(numbers == list(range(emitted)), f"all {emitted} come to the next: {numbers}")

    def test_what_a_killed_process_had_not_settled_comes_again(
        self, subject: SourceUnderTest
    ) -> None:
        """Kill a process that has read 40 events and settled some; go on where it had settled."""
        recipe: Recipe | None = getattr(subject, "recipe", None)
        if recipe is None:
            return
        subject.emit(15)
        subject.emit(25)
        taken: list[Taken] = []
        doomed = DoomedReader(recipe, getattr(subject, "begins", {}))
        try:
            while len(taken) < 40:
                taken += taken_of(subject, doomed.next_batch(self.patience))
            # Settled is a beginning of each partition, as checkpoints are.
            positions: dict[str, Position] = {}
            for event in taken[:15]:
                positions[event.partition] = event.position
            done = {e.number for e in taken if e.position <= positions.get(e.partition, "")}
            doomed.acknowledge(positions)
            if subject.acknowledged() is not None:
                wait_until(
                    lambda: subject.acknowledged() == len(done),
                    f"the upstream knows of {len(done)} acknowledged events",
                    seconds=self.patience,
                )
        finally:
            doomed.kill()
        with self._reading(subject, positions) as reader:
            again = sorted(e.number for e in self._take(subject, reader, 40 - len(done)))
        rest = sorted(set(range(40)) - done)
        expect(again == rest, f"{rest} come again and nothing else, not {again}")

    def test_a_connection_that_is_cut_recovers(self, subject: SourceUnderTest) -> None:
        """Cut it with events read and not acknowledged, make more, restore it."""
        self._live_through(subject, lambda network: network.cut())

    def test_a_connection_that_stalls_recovers(self, subject: SourceUnderTest) -> None:
        """The same with connections that are open and carry nothing."""
        self._live_through(subject, lambda network: network.stall())

    def test_a_connection_that_is_slow_serves(self, subject: SourceUnderTest) -> None:
        """The same with a server that is far away."""
        self._live_through(subject, lambda network: network.latency(150))

    def _live_through(self, subject: SourceUnderTest, trouble: _Trouble) -> None:
        network: TroubledNetwork | None = getattr(subject, "proxy", None)
        if network is None:
            return
        subject.emit(10)
        with self._through(subject) as reader:
            taken = self._take_distinct(subject, reader, 10)
            trouble(network)
            try:
                subject.emit(10)
                reader.acknowledge(_positions(taken))
                deadline = time.monotonic() + self.trouble
                while time.monotonic() < deadline:
                    more = reader.poll(10, 0.1)
                    taken += taken_of(subject, more) if more is not None and more.size else []
            finally:
                network.restore()
            subject.emit(10)
            taken += self._take_distinct(subject, reader, 30 - len({e.number for e in taken}))
            numbers = sorted({event.number for event in taken})
            expect(numbers == list(range(30)), f"0 to 29 came, not {numbers}")
            places = [(event.partition, event.position) for event in taken]
            expect(len(set(places)) == len(places), "no position came twice")
            reader.acknowledge(_positions(taken))
            if subject.acknowledged() is not None:
                wait_until(
                    lambda: subject.acknowledged() == 30,
                    "all is acknowledged over the mended connection",
                    seconds=self.patience,
                )
            wait_until(
                lambda: reader.status() == "" or reader.poll(1, 0.05) is not None,
                f"it says that all is well again, not {reader.status()!r}",
                seconds=self.patience,
            )

    def test_input_that_is_no_event_fails_alone_and_keeps_its_bytes(
        self, subject: SourceUnderTest
    ) -> None:
        """Not JSON, wrong encoding, empty, not a CloudEvent, 10 MB: each between two good events."""
        emit_raw = getattr(subject, "emit_raw", None)
        if emit_raw is None:
            return
        largest = min(_LARGE, getattr(subject, "largest", _LARGE))
        poison = [b"{not JSON", "caf\u00e9".encode("latin-1"), b'{"specversion":"0.3"', b"\xff\x00"]
        odd = [b"", b'"' + b"x" * (largest - 2) + b'"']
        subject.emit(1)
        emit_raw([*poison, *odd])
        subject.emit(1)
        with self._reading(subject) as reader:
            seen, failed, good = self._decoded(subject, reader, len(poison) + len(odd) + 2)
        expect(sorted(good) == [0, 1], f"the events around it are read, not {sorted(good)}")
        for payload in poison:
            expect(payload in failed, f"{payload!r} fails by itself, with its bytes")
        expect(odd[1] in seen, f"what is large ({largest} bytes) comes whole")

    def _decoded(
        self, subject: SourceUnderTest, reader: Reader, count: int
    ) -> tuple[list[bytes | None], list[bytes | None], list[int]]:
        """Return the bytes of all events, of those that failed, and the numbers of good ones."""
        seen: list[bytes | None] = []
        failed: list[bytes | None] = []
        good: list[int] = []
        while len(seen) < count:
            batch = self._poll(reader, 1000)
            data = batch.column("data")
            wires, raws = batch.column("wire"), batch.column("raw")
            for index in range(batch.size):
                body = raws[index] if wires[index] is None else wires[index]
                seen.append(body)
                if index in batch.errors:
                    failed.append(body)
                elif isinstance(data[index], (dict, int)):
                    good += subject.numbers(_only(batch, index))
        return seen, failed, good

    def _take_distinct(self, subject: SourceUnderTest, reader: Reader, count: int) -> list[Taken]:
        """Read until `count` different events have come; some upstreams may repeat one."""
        taken: list[Taken] = []
        while len({event.number for event in taken}) < count:
            taken += taken_of(subject, self._poll(reader, 1000))
        return taken

    @contextmanager
    def _through(self, subject: SourceUnderTest) -> Iterator[Reader]:
        more = getattr(subject, "opening", {})
        begins = dict(getattr(subject, "begins", {}))
        source = getattr(subject, "proxied")  # noqa: B009 - optional, and said to come with `proxy`
        reader: Reader = source.open(Opening(Shard(), begins, **more))
        try:
            yield reader
        finally:
            reader.close()


class _Trouble(Protocol):
    def __call__(self, network: TroubledNetwork, /) -> None:
        """Begin it."""


def _positions(taken: Sequence[Taken]) -> dict[str, Position]:
    return {event.partition: event.position for event in taken}


def _only(batch: Batch, index: int) -> Batch:
    return batch.pick([index])
