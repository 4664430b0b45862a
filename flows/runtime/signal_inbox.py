"""The inbox of operators' signals: what the replays' thread finds in the state store, for the dataflow.

One query by an index, twice a second. Steps look at `come` between two batches' steps, so a signal
reaches what runs without waiting for the batch's end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog

from flows.state.contracts import StateStore
from flows.state.signals import Signal

log = structlog.get_logger("penstock.worker")

LOOK = 0.5
"""Seconds between looks."""

TOLD = 20
"""Signals of one look that are logged, each in a line."""

OVERLAP = 1000
"""Numbers that are looked at again: of two that ask at once, the later number may be there first."""


class SignalInbox:
    """What has come and nobody has obeyed; `look` is the thread's, the others are the dataflow's."""

    def __init__(self, flow: str, source: str, waiting: Sequence[Signal] = ()) -> None:
        """Begin with `waiting`: what the state store had when the worker started."""
        self._flow = flow
        self._source = source
        self.come: list[Signal] = list(waiting)
        self._known = {signal.number for signal in waiting}
        self._expires: list[float] = []
        self._note_expiry(waiting)
        self._next_look = 0.0
        self._lock = threading.Lock()

    def look(self, store: StateStore) -> float:
        """Take what has been asked since; return the seconds until it is to look again."""
        now = time.monotonic()
        if now < self._next_look:
            return self._next_look - now
        self._next_look = now + LOOK
        behind = max(self._known, default=0) - OVERLAP
        found = store.signals.open(self._flow, self._source, behind)
        new = [signal for signal in found if signal.number not in self._known]
        self._known = {number for number in self._known if number > behind}
        self._known |= {signal.number for signal in new}
        self._note_expiry(new)
        if self._expires and min(self._expires) < time.time():
            store.signals.give_up(self._flow, time.time())
            self._expires = [at for at in self._expires if at >= time.time()]
        if new:
            for each in new[:TOLD]:
                log.info(
                    "signal",
                    signal=each.action,
                    execution=each.execution,
                    by=each.requested_by,
                    reason=each.reason,
                )
            with self._lock:
                self.come = [*self.come, *new]
        return LOOK

    def _note_expiry(self, signals: Sequence[Signal]) -> None:
        self._expires += [each.expires_at for each in signals if each.expires_at is not None]

    def take(self) -> list[Signal]:
        """Return what has come, and forget it."""
        with self._lock:
            taken, self.come = self.come, []
        return taken

    def obeyed(self, signal: Signal) -> None:
        """Forget one of them."""
        with self._lock:
            self.come = [each for each in self.come if each is not signal]
