"""A sink that is opened when something is delivered to it for the first time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from connectors.contracts import Check, Outgoing, Sink, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError, RetryableError


class LateSink:
    """See `connectors.contracts.Sink`: for what is delivered seldom, or never, such as a replay.

    Only for sinks that keep no state, since nothing is known of it when they are opened.
    """

    def __init__(self, make: Callable[[], Sink], opening: SinkOpening) -> None:
        self._make = make
        self._opening = opening
        self._sink: Sink | None = None
        self.traits: SinkTraits = make().traits

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:
        """Check what publishing needs."""
        return self._make().preflight(topics)

    def open(self, opening: SinkOpening) -> None:
        """Keep for later what it is opened with."""
        self._opening = opening

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Open the sink if it is not, and deliver. While it can't be reached, all wait."""
        try:
            sink = self._opened()
        except FatalError as error:
            failure: PenstockError = error
            if error.unreachable:
                failure = RetryableError(error.message, code=error.code, hint=error.hint)
            return dict.fromkeys(range(len(events)), failure)
        return sink.deliver(events)

    def _opened(self) -> Sink:
        if self._sink is None:
            sink = self._make()
            sink.open(self._opening)
            self._sink = sink
        return self._sink

    def settled_state(self) -> Mapping[str, str] | None:
        """Return None: it keeps nothing."""
        return None

    def close(self) -> None:
        """Close the sink, if it was opened."""
        if self._sink is not None:
            self._sink.close()
