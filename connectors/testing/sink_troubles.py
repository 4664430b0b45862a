"""What a sink must live through: a network that is cut, stalls or is slow, and a stop meanwhile.

These tests ask the system under test for more than the others; what it does not have is not tried. Its
members, each optional:

    proxy            TroubledNetwork between the sinks of these two and the far side
    make_proxied     () → a new sink that goes through `proxy`
    make_impatient   () → the same, which gives up on a far side that says nothing within some seconds
"""

from __future__ import annotations

from collections.abc import Callable

from connectors.contracts import Sink, SinkOpening
from connectors.testing.delivering import (
    Delivering,
    SinkDelivering,
    SinkUnderTest,
    close_in_time,
    deliver_all,
    expect_arrived,
    opened,
)
from connectors.testing.troubles import TroubledNetwork
from connectors.testing.waiting import expect


class SinkTroubles(SinkDelivering):
    """Part of SinkConformance."""

    trouble = 0.5
    """Seconds that a failure of the network lasts."""
    patience = 90.0
    """Seconds after which all must be confirmed that was delivered during such a failure."""

    def test_a_connection_that_is_cut_recovers(self, subject: SinkUnderTest) -> None:
        """Deliver while it is cut, until all is confirmed after it is restored."""
        self._live_through(subject, "cut")

    def test_a_connection_that_stalls_recovers(self, subject: SinkUnderTest) -> None:
        """The same with connections that are open and carry nothing."""
        self._live_through(subject, "stall")

    def test_a_connection_that_stalls_for_longer_than_it_waits_recovers(
        self, subject: SinkUnderTest
    ) -> None:
        """The same until it has given up once: what was on its way may still arrive."""
        self._live_through(subject, "stall", until_it_gives_up=True)

    def test_a_connection_that_is_slow_serves(self, subject: SinkUnderTest) -> None:
        """Deliver to a far side that is far away."""
        network, make = _through(subject, "make_proxied")
        if network is None or make is None:
            return
        network.latency(150)
        try:
            sink = make()
            sink.open(SinkOpening({}))
            try:
                for first in (0, 4, 8):
                    deliver_all(sink, self._events(range(first, first + 4)))
            finally:
                close_in_time(sink)
        finally:
            network.restore()
        expect_arrived(subject, range(12), once=True)

    def test_it_closes_within_five_seconds_while_the_connection_stalls(
        self, subject: SinkUnderTest
    ) -> None:
        """Close it with everything confirmed; a sink opened with its state misses nothing."""
        self._close_while_stalled(subject, "make_proxied", delivering=False)

    def test_it_closes_within_five_seconds_when_it_could_not_deliver(
        self, subject: SinkUnderTest
    ) -> None:
        """Close it after a delivery that the stalled connection has made fail."""
        self._close_while_stalled(subject, "make_impatient", delivering=True)

    def _live_through(
        self, subject: SinkUnderTest, trouble: str, *, until_it_gives_up: bool = False
    ) -> None:
        network, make = _through(subject, "make_impatient" if until_it_gives_up else "make_proxied")
        if network is None or make is None:
            return
        sink = make()
        sink.open(SinkOpening({}))
        try:
            deliver_all(sink, self._events(range(10)))
            getattr(network, trouble)()
            delivering = Delivering(sink, self._events(range(10, 30)))
            delivering.start()
            if until_it_gives_up:
                gave_up = delivering.retries.wait(self.patience)
                expect(gave_up, f"it gives up on what stalls; failed: {delivering.failed}")
            delivering.join(self.trouble)
            expect(delivering.is_alive(), "nothing is confirmed while the far side is away")
            network.restore()
            delivering.join(self.patience)
            expect(not delivering.is_alive(), "all is confirmed once it is back")
            expect(not delivering.failed, f"and nothing fails: {delivering.failed}")
            once = sink.traits.delivery != "at_least_once"
        finally:
            network.restore()
            sink.close()
        expect_arrived(subject, range(30), once=once)

    def _close_while_stalled(self, subject: SinkUnderTest, how: str, *, delivering: bool) -> None:
        network, make = _through(subject, how)
        if network is None or make is None:
            return
        sink = make()
        sink.open(SinkOpening({}))
        once = sink.traits.delivery != "at_least_once"
        try:
            deliver_all(sink, self._events(range(10)))
            state = sink.settled_state()
            network.stall()
            if delivering:
                under_way = Delivering(sink, self._events(range(10, 20)))
                under_way.start()
                expect(under_way.retries.wait(self.patience), "it gives up on what stalls")
                under_way.enough.set()
                under_way.join(self.patience)
                expect(not under_way.is_alive(), "a delivery ends")
            close_in_time(sink)
        finally:
            network.restore()
        # What was not confirmed comes again, from the source.
        with opened(subject, state or {}) as sink:
            if delivering:
                deliver_all(sink, self._events(range(10, 20)))
        expect_arrived(subject, range(20 if delivering else 10), once=once)


def _through(
    subject: SinkUnderTest, how: str
) -> tuple[TroubledNetwork | None, Callable[[], Sink] | None]:
    return getattr(subject, "proxy", None), getattr(subject, how, None)
