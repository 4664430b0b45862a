"""`Halt`: the one flag by which a worker's threads learn that it must stop, and why."""

from __future__ import annotations

import threading
import traceback
from pathlib import Path

from connectors.errors import FatalError, PenstockError


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

    def broke(self, part: str, error: Exception) -> None:
        """Stop at once because of a defect in `part`: its thread ends, and must not end alone."""
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = ", ".join(f"{Path(each.filename).name}:{each.lineno}" for each in frames)
        self.fail(
            FatalError(
                f"{part} broke: {type(error).__name__}: {error} ({where}).",
                code="internal_error",
                hint="This is a defect; please report it. What was not settled comes again.",
            )
        )

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
