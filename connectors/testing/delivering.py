"""What all tests of a sink share: the system under test, events, delivering them, what arrived."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from connectors.contracts import Outgoing, Sink, SinkOpening
from connectors.errors import RetryableError
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


class SinkDelivering:
    """Makes events for a sink."""

    topic: str | None = None
    """What a publish step would name; set it for sinks that carry topics."""

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
        self.retries = threading.Event()
        """Set when something had to be tried again."""
        self.enough = threading.Event()
        """Set by the test, as when the worker is to stop: nothing more is tried again."""

    def run(self) -> None:
        """Deliver until nothing is left."""
        events = self._events
        try:
            while failures := self._sink.deliver(events):
                self.failed += [e for e in failures.values() if not isinstance(e, RetryableError)]
                if self.failed:
                    return
                events = _picked(events, sorted(failures))
                self.retries.set()
                if self.enough.wait(0.05):
                    return
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
def opened(subject: SinkUnderTest, state: Mapping[str, str] | None = None) -> Iterator[Sink]:
    """Give an open sink of the subject; it is closed afterwards."""
    sink = subject.make()
    sink.open(SinkOpening(state or {}))
    try:
        yield sink
    finally:
        sink.close()


def close_in_time(sink: Sink, seconds: float = 5.0) -> None:
    """Close the sink; raise AssertionError when that takes longer."""
    failed: list[BaseException] = []

    def close() -> None:
        try:
            sink.close()
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits
            failed.append(error)

    closing = threading.Thread(target=close, name="closing", daemon=True)
    started = time.monotonic()
    closing.start()
    closing.join(seconds)
    expect(
        not closing.is_alive(),
        f"close is done within {seconds:g} s, and not under way after {time.monotonic() - started:.1f} s",
    )
    if failed:
        raise failed[0]


def deliver_all(sink: Sink, events: Outgoing) -> None:
    """Deliver events, of which none may fail."""
    failures = sink.deliver(events)
    expect(not failures, f"every event is delivered; these failed: {dict(failures)}")


def expect_arrived(subject: SinkUnderTest, numbers: Iterable[int], *, once: bool) -> None:
    """Wait until these events arrived; raise AssertionError for others, and for a wrong order."""
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
