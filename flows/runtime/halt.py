"""`Halt`: the one flag by which a worker's threads learn that it must stop, and why."""

from __future__ import annotations

import threading

from connectors.errors import PenstockError


class Halt:
    """Set once, by whoever sees the reason first; read by all. Safe from any thread.

    Without an error it is a drain: what is in flight is finished and settled. With one, the batch
    in flight is not settled: its events come again after a restart.
    """

    __slots__ = ("_asked", "_error", "_lock")

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._error: PenstockError | None = None
        self._lock = threading.Lock()

    def ask(self) -> None:
        """Stop after what is in flight."""
        self._asked.set()

    def fail(self, error: PenstockError) -> None:
        """Stop at once because of `error`; the first one stands."""
        with self._lock:
            if self._error is None:
                self._error = error
        self._asked.set()

    @property
    def error(self) -> PenstockError | None:
        """The reason, if it is one to report."""
        return self._error

    def asked(self) -> bool:
        """Whether to stop, for whatever reason."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; return whether to stop. A sleep that a stop cuts short."""
        return self._asked.wait(seconds)
