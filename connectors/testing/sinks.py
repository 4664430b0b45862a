"""What connectors.contracts asks of a sink, as tests."""

from __future__ import annotations

import json

from connectors.contracts import Outgoing
from connectors.errors import PenstockError
from connectors.testing.delivering import SinkUnderTest, deliver_all, expect_arrived, opened
from connectors.testing.leaks import no_leaks
from connectors.testing.sink_troubles import SinkTroubles
from connectors.testing.waiting import expect, wait_until


class SinkConformance(SinkTroubles):
    """Subclass it with a fixture `subject` that gives a SinkUnderTest."""

    def test_all_that_was_delivered_is_there_in_order_per_key(self, subject: SinkUnderTest) -> None:
        """Deliver batches of one to many events over a few keys."""
        with opened(subject) as sink:
            first = 0
            for size in (1, 2, 50, 0, 700, 1):
                deliver_all(sink, self._events(range(first, first + size)))
                first += size
            expect_arrived(subject, range(first), once=True)

    def test_what_deliver_confirms_is_there_before_it_is_closed(
        self, subject: SinkUnderTest
    ) -> None:
        """A confirmed event is durable at the far side, and not in a buffer of ours."""
        with opened(subject) as sink:
            deliver_all(sink, self._events(range(5)))
            expect_arrived(subject, range(5), once=True)

    def test_a_failed_event_is_reported_by_its_place_and_the_others_are_delivered(
        self, subject: SinkUnderTest
    ) -> None:
        """Have the far side refuse two of seven."""
        with opened(subject) as sink:
            if not subject.refuse([2, 5]):
                return
            failures = sink.deliver(self._events(range(7)))
            expect(sorted(failures) == [2, 5], f"failures at [2, 5], not at {sorted(failures)}")
            for error in failures.values():
                expect(isinstance(error, PenstockError), f"a PenstockError, not {error!r}")
                expect(error.code, f"{error!r} has no code")
            expect_arrived(subject, [0, 1, 3, 4, 6], once=True)

    def test_an_event_without_data_or_key_is_delivered_or_refused_alone(
        self, subject: SinkUnderTest
    ) -> None:
        """Send a tombstone between two others."""
        with opened(subject) as sink:
            events = self._events(range(3), keyed=False)
            values = [events.values[0], None, events.values[2]]
            failures = sink.deliver(Outgoing(values, events.keys, events.attributes, self.topic))
            expect(set(failures) <= {1}, f"only the event without data may fail: {dict(failures)}")
            wait_until(
                lambda: {0, 2} <= {d["n"] for d in subject.arrived() if isinstance(d, dict)},
                f"events 0 and 2 arrived; these did: {subject.arrived()}",
            )

    def test_a_restart_with_the_settled_state_loses_nothing_and_keeps_its_promise(
        self, subject: SinkUnderTest
    ) -> None:
        """Settle a batch, deliver another, restart, and deliver that again, as a source would."""
        with opened(subject) as sink:
            deliver_all(sink, self._events(range(10)))
            state = sink.settled_state()
            deliver_all(sink, self._events(range(10, 20)))
            delivery = sink.traits.delivery
        if state is not None:
            for entry in state.items():
                expect(all(isinstance(part, str) for part in entry), f"text, not {entry!r}")
            json.dumps(dict(state))
        with opened(subject, state or {}) as sink:
            deliver_all(sink, self._events(range(10, 20)))
            state = sink.settled_state()
            deliver_all(sink, self._events(range(20, 25)))
            state = sink.settled_state()
        with opened(subject, state or {}):
            pass
        expect_arrived(subject, range(25), once=delivery != "at_least_once")

    def test_a_preflight_passes_and_changes_nothing(self, subject: SinkUnderTest) -> None:
        """Run it before the sink is opened."""
        topics = [] if self.topic is None else [self.topic]
        for check in subject.make().preflight(topics):
            expect(check.ok, f"{check.name}: {check.found}")
        expect(not subject.arrived(), "a preflight sends no event")

    def test_closing_leaves_no_thread_and_no_connection(self, subject: SinkUnderTest) -> None:
        """Open, use and close it twice."""
        with opened(subject):
            pass  # what a library keeps for the whole process is made here
        with no_leaks(), opened(subject) as sink:
            deliver_all(sink, self._events(range(20)))
