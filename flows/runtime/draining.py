"""`Drain`: a worker's stop, from the signal to the end of the process, in the time there is for it.

    SIGTERM ──► drain: finish, settle, checkpoint ──────────► closed ──► exit
                  └─ drain_timeout ──► give up: store what is settled, give the lease back ──► exit

A delivery to a server that says nothing ends when its own timeout does, which may be minutes, in a call
that nobody can end from outside. So it is not ended: the process is. For the events in flight that is a
crash, which everything else is made for (docs/guarantees.md): nothing of them is settled, a sink undoes
what it can undo, they come again. Unlike a crash, it is told, what was settled is stored, and the shard
is free for the next start.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from connectors.errors import FatalError, PenstockError
from connectors.threads import watched
from flows.runtime.halt import Halt
from flows.runtime.under_way import UnderWay, told

GRACE = 1.0
"""Seconds that a worker has to end in once its drain has been given up."""

LOOK_EVERY = 1.0
"""Seconds between looks whether a thread has asked to stop, rather than a signal."""

log = structlog.get_logger("penstock.worker")


class Telling(Protocol):
    """What knows what a worker does: its reporter."""

    def under_way(self) -> list[UnderWay]:
        """Return the steps that run just now."""

    def waits_for(self) -> str:
        """Return what the worker waits for, or ""."""

    def close(self, error: PenstockError | None) -> None:
        """Tell the supervisor of the end."""


class Drain:
    """One worker's. Everything but `listen` works the same where nobody listens, and never ends it."""

    def __init__(self, halt: Halt, telling: Telling, seconds: float = float("inf")) -> None:
        """`seconds`: how long a drain may take."""
        self._halt = halt
        self._telling = telling
        self._seconds = seconds
        self._store: Callable[[], None] | None = None
        self._let_go: Callable[[], None] | None = None
        self._ending = threading.Lock()
        self._is_stored = False

    def listen(self, exit_code: Callable[[PenstockError | None], int]) -> None:
        """Drain at SIGTERM, and end the process when that takes too long. From the main thread, once.

        The signal is heard on a thread of its own: the main one may be within a call into C, and would
        hear it after that.
        """
        hears, rings = socket.socketpair()
        for end in (hears, rings):
            end.setblocking(False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(rings.fileno(), warn_on_full_buffer=False)
        os.register_at_fork(
            before=_hold_signal, after_in_parent=_release_signal, after_in_child=_leave
        )

        self._rings = rings  # the kernel's side of it, for as long as the process lives

        def run() -> None:
            self._hear(hears)
            self._limit(exit_code)

        threading.Thread(
            target=watched("stopping", run, self._halt.fail), name="drain", daemon=True
        ).start()

    def stores_by(self, close: Callable[[], None]) -> None:
        """Say what stores what is settled and gives the lease back, on any thread."""
        self._store = close

    def lets_go_by(self, close: Callable[[], None]) -> None:
        """Say what gives back what the source has handed over; called while a step runs, or never."""
        self._let_go = close

    def begin_to_end(self) -> None:
        """Say that the dataflow has ended, and is to be stored. Does not return once that was given up."""
        self._ending.acquire()

    def is_stored(self) -> None:
        """Say that everything is stored: what is left may be cut short, and nobody needs to know."""
        self._is_stored = True

    # --- its thread -----------------------------------------------------------------------------

    def _hear(self, hears: socket.socket) -> None:
        """Wait until the worker is to stop."""
        while not self._halt.asked():
            if select.select([hears], [], [], LOOK_EVERY)[0] and signal.SIGTERM in hears.recv(64):
                self._halt.ask()

    def _limit(self, exit_code: Callable[[PenstockError | None], int]) -> None:
        """End the process when its time is over; at its own end this thread ends with it."""
        time.sleep(self._seconds)
        guard = threading.Timer(GRACE, lambda: os._exit(exit_code(self._halt.error)))
        guard.daemon = True
        guard.start()
        if not self._is_stored:
            self._give_up()
        self._telling.close(self._halt.error)
        os._exit(exit_code(self._halt.error))

    def _give_up(self) -> None:
        """Stop at once; store what can be stored and give back what can be given back."""
        found = self._telling.under_way()
        error = gave_up(self._seconds, found, self._telling.waits_for())
        if self._halt.error is None:
            log.warning(
                "drain given up",
                code=error.code,
                error=error.message,
                hint=error.hint,
                **told(found),
            )
        self._halt.fail(error)
        if not self._ending.acquire(blocking=False):
            return  # the main thread is at it already
        # Within a step the main thread has nothing to do with the reader, and it stays there, or waits.
        for call in (self._store, self._let_go if found else None):
            if call is not None:
                thread = threading.Thread(target=_quietly, args=[call], daemon=True)
                thread.start()
                thread.join(GRACE / 2.5)


def gave_up(seconds: float, found: list[UnderWay], waits_for: str) -> FatalError:
    """Return the error of a drain that took longer than it may."""
    why = f": {waits_for.rstrip('.')}" if waits_for else ""
    if found:
        why = f", while it waited for {', '.join(map(str, found))}"
    return FatalError(
        f"stopped {seconds:g} s after it was asked to{why}.",
        code="drain_timeout",
        hint="What was in flight is not settled: its events come again at the next start."
        " `--drain-timeout` gives a stop more time.",
        unreachable=True,
        **told(found),
    )


def _quietly(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:
        log.exception("closing failed while a drain was given up")


def _hold_signal() -> None:
    """Have a process that is about to be forked be stopped once it has left the worker, not before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release_signal() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _leave() -> None:
    """Have what a user's step has forked end when it is stopped: it is not the worker, and rings for none."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _release_signal()
