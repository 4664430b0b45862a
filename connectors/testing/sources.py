"""What connectors.contracts asks of a source, as tests."""

from __future__ import annotations

import threading
import time

from connectors.batch import Position
from connectors.contracts import EndOfSource
from connectors.testing.leaks import no_leaks
from connectors.testing.reading import SourceUnderTest, expect_order, taken_of
from connectors.testing.troubles import SourceTroubles
from connectors.testing.waiting import expect, wait_until


class SourceConformance(SourceTroubles):
    """Subclass it with a fixture `subject` that gives a SourceUnderTest."""

    def test_every_event_comes_once_and_in_order_per_key(self, subject: SourceUnderTest) -> None:
        """Read what was there before the reader, and what came after."""
        subject.emit(20)
        with self._reading(subject) as reader:
            taken = self._take(subject, reader, 20)
            subject.emit(13)
            taken += self._take(subject, reader, 13)
        numbers = [event.number for event in taken]
        expect(sorted(numbers) == list(range(33)), f"0 to 32 once each, not {sorted(numbers)}")
        if subject.source.traits.ordered:
            expect_order(taken)

    def test_positions_are_unique_and_sort_as_text_in_their_partition(
        self, subject: SourceUnderTest
    ) -> None:
        """Across batches, and across digits: 9 comes before 10."""
        with self._reading(subject) as reader:
            taken = []
            for count in (1, 8, 120):
                subject.emit(count)
                taken += self._take(subject, reader, count)
        last: dict[str, Position] = {}
        for event in taken:
            before = last.get(event.partition, "")
            expect(
                before < event.position,
                f"position {event.position!r} sorts after {before!r} in {event.partition!r}",
            )
            last[event.partition] = event.position

    def test_a_batch_keeps_the_limit_and_says_where_it_ends(self, subject: SourceUnderTest) -> None:
        """`after` is the position of the last event of each partition in the batch."""
        subject.emit(10)
        with self._reading(subject) as reader:
            count = 0
            while count < 10:
                batch = self._poll(reader, 3)
                expect(batch.size <= 3, f"at most 3 events, not {batch.size}")
                expect(set(batch.column("partition")) <= set(batch.after), "after names partitions")
                for event in taken_of(subject, batch):
                    at = batch.after[event.partition]
                    expect(event.position <= at, f"after {at!r} covers {event.position!r}")
                count += batch.size

    def test_poll_waits_for_a_first_event_and_no_longer(self, subject: SourceUnderTest) -> None:
        """An event that comes while `poll` waits ends the waiting."""
        with self._reading(subject) as reader:
            nothing = reader.poll(10, 0)
            expect(nothing is None or nothing.size == 0, "no event where none was made")
            emitter = threading.Timer(0.2, subject.emit, [1])
            emitter.start()
            try:
                started = time.monotonic()
                batch = self._poll(reader, 10)
                waited = time.monotonic() - started
            finally:
                emitter.join()
            expect(list(subject.numbers(batch)) == [0], "the event that came")
            expect(waited < self.patience, f"poll woke up for it, not after {waited:.1f} s")

    def test_a_restart_at_any_event_goes_on_right_behind_it(self, subject: SourceUnderTest) -> None:
        """Settle a part of what was read, at every event; the rest comes again and nothing else."""
        total = 6
        subject.emit(total)
        positions: dict[str, Position] = {}
        done: list[int] = []
        for turn in range(total + 1):
            with self._reading(subject, positions) as reader:
                taken = self._take(subject, reader, total - len(done))
                rest = sorted(event.number for event in taken)
                expected = sorted(set(range(total)) - set(done))
                expect(rest == expected, f"turn {turn}: {expected} come, not {rest}")
                if subject.source.traits.ordered:
                    expect_order(taken)
                if taken:
                    positions[taken[0].partition] = taken[0].position
                    done.append(taken[0].number)
                    reader.acknowledge({taken[0].partition: taken[0].position})
        subject.emit(1)
        with self._reading(subject, positions) as reader:
            after = [event.number for event in self._take(subject, reader, 1)]
            expect(after == [total], f"only the new event {total} comes, not {after}")

    def test_what_was_read_but_not_acknowledged_comes_again(self, subject: SourceUnderTest) -> None:
        """Close without acknowledging, and start with the same positions."""
        subject.emit(5)
        for turn in range(2):
            with self._reading(subject) as reader:
                taken = sorted(event.number for event in self._take(subject, reader, 5))
                expect(taken == list(range(5)), f"turn {turn}: 0 to 4, not {taken}")

    def test_nothing_is_acknowledged_upstream_before_it_is_settled(
        self, subject: SourceUnderTest
    ) -> None:
        """Look at the upstream after reading, and after acknowledging."""
        subject.emit(8)
        with self._reading(subject) as reader:
            taken = self._take(subject, reader, 8)
            if subject.acknowledged() is None:
                return
            deadline = time.monotonic() + self.silence
            while time.monotonic() < deadline:
                expect(not subject.acknowledged(), "nothing is acknowledged that was only read")
                reader.poll(10, 0.05)
            last: dict[str, Position] = {}
            for event in taken:
                last[event.partition] = event.position
            reader.acknowledge(last)
            wait_until(
                lambda: subject.acknowledged() == 8,
                "the upstream knows of all 8 acknowledged events",
                seconds=self.patience,
            )

    def test_a_bounded_read_ends_where_the_end_was_at_its_start(
        self, subject: SourceUnderTest
    ) -> None:
        """`until_caught_up` raises EndOfSource after the last event, and at once without one."""
        for count in (0, 7):
            subject.emit(count)
            with self._reading(subject, until_caught_up=True) as reader:
                numbers: list[int] = []
                deadline = time.monotonic() + self.patience
                while True:
                    expect(time.monotonic() < deadline, f"the end comes; so far: {numbers}")
                    try:
                        batch = reader.poll(5, 0.1)
                    except EndOfSource:
                        break
                    if batch is not None and batch.size:
                        numbers += subject.numbers(batch)
                expect(sorted(numbers) == list(range(count)), f"{count} events, not {numbers}")

    def test_closing_stops_it_cleanly_whatever_it_was_doing(self, subject: SourceUnderTest) -> None:
        """Idle, in mid-read with a backlog, and right after opening."""
        with self._reading(subject) as reader:
            reader.poll(1, 0)  # what a library keeps for the whole process is made here
        with no_leaks(seconds=self.leaving), self._reading(subject) as reader:
            reader.poll(1, 0.2)
        subject.emit(300)
        with no_leaks(seconds=self.leaving), self._reading(subject) as reader:
            self._poll(reader, 1)
        with no_leaks(seconds=self.leaving), self._reading(subject):
            pass

    def test_lag_and_status_may_be_asked_from_another_thread(
        self, subject: SourceUnderTest
    ) -> None:
        """They answer from memory."""
        subject.emit(3)
        with self._reading(subject) as reader:
            self._take(subject, reader, 3)
            answers: list[object] = []
            asker = threading.Thread(
                target=lambda: answers.extend([dict(reader.lag()), reader.status()])
            )
            asker.start()
            asker.join(self.patience)
            expect(len(answers) == 2, "lag and status answered")
            expect(answers[1] == "", f"status is empty when all is well, not {answers[1]!r}")

    def test_a_preflight_passes(self, subject: SourceUnderTest) -> None:
        """Run it before the source is opened."""
        for check in subject.source.preflight():
            expect(check.ok or check.severity == "warning", f"{check.name}: {check.found}")
