"""What connectors.contracts asks of a sink, as tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from connectors.contracts import Outgoing, Sink, SinkOpening
from connectors.errors import PenstockError, RetryableError
from connectors.testing.leaks import no_leaks
from connectors.testing.waiting import expect, wait_until

PATIENCE = 20.0
"""Seconds that delivered events may take to be seen at the far side."""


class SinkUnderTest(Protocol):
    """A sink and its far side. Made anew, and empty, for each test."""

    def make(self) -> Sink:
        """Return a new sink that writes to the far side; it is not open yet."""

    def arrived(self) -> Sequence[Any]:
        """Return the data of the events that have arrived, decoded, in the order of arrival."""

    def refuse(self, numbers: Iterable[int]) -> bool:
        """Make the far side refuse events whose data has these `n`; False where it can't be."""


class SinkConformance:
    """Subclass it with a fixture `subject` that gives a SinkUnderTest."""

    topic: str | None = None
    """What a publish step would name; set it for sinks that carry topics."""
    trouble = 0.5
    """Seconds that a failure of the network lasts."""
    patience = 90.0
    """Seconds after which all must be confirmed that was delivered during such a failure."""

    def test_all_that_was_delivered_is_there_in_order_per_key(self, subject: SinkUnderTest) -> None:
        """Deliver batches of one to many events over a few keys."""
        with _opened(subject) as sink:
            first = 0
            for size in (1, 2, 50, 0, 700, 1):
                _delivered(sink, self._events(range(first, first + size)))
                first += size
            _expect_arrived(subject, range(first), once=True)

    def test_what_deliver_confirms_is_there_before_it_is_closed(
        self, subject: SinkUnderTest
    ) -> None:
        """A confirmed event is durable at the far side, and not in a buffer of ours."""
        with _opened(subject) as sink:
            _delivered(sink, self._events(range(5)))
            _expect_arrived(subject, range(5), once=True)

    def test_a_failed_event_is_reported_by_its_place_and_the_others_are_delivered(
        self, subject: SinkUnderTest
    ) -> None:
        """Have the far side refuse two of seven."""
        with _opened(subject) as sink:
            if not subject.refuse([2, 5]):
                return
            failures = sink.deliver(self._events(range(7)))
            expect(sorted(failures) == [2, 5], f"failures at [2, 5], not at {sorted(failures)}")
            for error in failures.values():
                expect(isinstance(error, PenstockError), f"a PenstockError, not {error!r}")
                expect(error.code, f"{error!r} has no code")
            _expect_arrived(subject, [0, 1, 3, 4, 6], once=True)

    def test_an_event_without_data_or_key_is_delivered_or_refused_alone(
        self, subject: SinkUnderTest
    ) -> None:
        """Send a tombstone between two others."""
        with _opened(subject) as sink:
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
        with _opened(subject) as sink:
            _delivered(sink, self._events(range(10)))
            state = sink.settled_state()
            _delivered(sink, self._events(range(10, 20)))
            delivery = sink.traits.delivery
        if state is not None:
            for entry in state.items():
                expect(all(isinstance(part, str) for part in entry), f"text, not {entry!r}")
            json.dumps(dict(state))
        with _opened(subject, state or {}) as sink:
            _delivered(sink, self._events(range(10, 20)))
            state = sink.settled_state()
            _delivered(sink, self._events(range(20, 25)))
            state = sink.settled_state()
        with _opened(subject, state or {}):
            pass
        _expect_arrived(subject, range(25), once=delivery != "at_least_once")

    def test_a_preflight_passes_and_changes_nothing(self, subject: SinkUnderTest) -> None:
        """Run it before the sink is opened."""
        topics = [] if self.topic is None else [self.topic]
        for check in subject.make().preflight(topics):
            expect(check.ok, f"{check.name}: {check.found}")
        expect(not subject.arrived(), "a preflight sends no event")

    def test_closing_leaves_no_thread_and_no_connection(self, subject: SinkUnderTest) -> None:
        """Open, use and close it twice."""
        with _opened(subject):
            pass  # what a library keeps for the whole process is made here
        with no_leaks(), _opened(subject) as sink:
            _delivered(sink, self._events(range(20)))

    def test_a_connection_that_is_cut_recovers(self, subject: SinkUnderTest) -> None:
        """Deliver while it is cut, until all is confirmed after it is restored.

        For subjects with `proxy` (a TroubledNetwork) and `make_proxied()`, a sink that goes through it.
        """
        self._live_through(subject, "cut")

    def test_a_connection_that_stalls_recovers(self, subject: SinkUnderTest) -> None:
        """The same with connections that are open and carry nothing."""
        self._live_through(subject, "stall")

    def _live_through(self, subject: SinkUnderTest, trouble: str) -> None:
        network = getattr(subject, "proxy", None)
        if network is None:
            return
        sink: Sink = getattr(subject, "make_proxied")()  # noqa: B009 - optional, comes with `proxy`
        sink.open(SinkOpening({}))
        try:
            _delivered(sink, self._events(range(10)))
            getattr(network, trouble)()
            delivering = Delivering(sink, self._events(range(10, 30)))
            delivering.start()
            delivering.join(self.trouble)
            expect(delivering.is_alive(), "nothing is confirmed while the far side is away")
            network.restore()
            delivering.join(self.patience)
            expect(not delivering.is_alive(), "all is confirmed once it is back")
            expect(not delivering.failed, f"and nothing fails: {delivering.failed}")
        finally:
            network.restore()
            sink.close()
        _expect_arrived(subject, range(30), once=False)

    def _events(self, numbers: Iterable[int], *, keyed: bool = True) -> Outgoing:
        chosen = list(numbers)
        values = [json.dumps({"n": n, "key": f"k{n % 3}"}).encode() for n in chosen]
        ids = [f"event-{n}" for n in chosen]
        attributes: Mapping[str, Any] = {
            "id": ids,
            "source": "/conformance",
            "type": "conformance.event",
            "time": "2026-11-21T05:07:38Z",
        }
        keys = [f"k{n % 3}" if keyed else None for n in chosen]
        return Outgoing(values, keys, lambda: attributes, self.topic)


class Delivering(threading.Thread):
    """Delivers events as the runtime does: what can be retried is, until it is confirmed."""

    def __init__(self, sink: Sink, events: Outgoing) -> None:
        super().__init__(name="delivering", daemon=True)
        self._sink = sink
        self._events = events
        self.failed: list[BaseException] = []

    def run(self) -> None:
        """Deliver until nothing is left."""
        events = self._events
        try:
            while failures := self._sink.deliver(events):
                self.failed += [e for e in failures.values() if not isinstance(e, RetryableError)]
                if self.failed:
                    return
                events = _picked(events, sorted(failures))
                time.sleep(0.05)
        except Exception as error:  # noqa: BLE001 - the test shows it
            self.failed.append(error)


def _picked(events: Outgoing, places: Sequence[int]) -> Outgoing:
    attributes = {
        name: [value[k] for k in places] if isinstance(value, list) else value
        for name, value in events.attributes().items()
    }
    values = [events.values[k] for k in places]
    return Outgoing(values, [events.keys[k] for k in places], lambda: attributes, events.topic)


@contextmanager
def _opened(subject: SinkUnderTest, state: Mapping[str, str] | None = None) -> Iterator[Sink]:
    sink = subject.make()
    sink.open(SinkOpening(state or {}))
    try:
        yield sink
    finally:
        sink.close()


def _delivered(sink: Sink, events: Outgoing) -> None:
    failures = sink.deliver(events)
    expect(not failures, f"every event is delivered; these failed: {dict(failures)}")


def _expect_arrived(subject: SinkUnderTest, numbers: Iterable[int], *, once: bool) -> None:
    wanted = list(numbers)
    wait_until(
        lambda: {data["n"] for data in subject.arrived()} >= set(wanted),
        f"all of {_short(wanted)} arrived",
        seconds=PATIENCE,
    )
    found = [data["n"] for data in subject.arrived()]
    expect(set(found) == set(wanted), f"only {_short(wanted)} arrived, and not {_short(found)}")
    if once:
        expect(len(found) == len(set(found)), f"each arrived once: {_short(sorted(found))}")
    firsts = list(dict.fromkeys(found))
    for rest in range(3):
        of_key = [n for n in firsts if n % 3 == rest]
        expect(of_key == sorted(of_key), f"the key k{rest} arrived in order: {_short(of_key)}")


def _short(numbers: Sequence[int]) -> str:
    return str(list(numbers)) if len(numbers) <= 40 else f"{list(numbers[:40])}…"
