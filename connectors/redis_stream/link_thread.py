"""A reader's thread with a connection of its own: it goes on after the server was away."""

from __future__ import annotations

import threading
from collections.abc import Callable

from redis.exceptions import RedisError

from connectors.errors import FatalError
from connectors.redis_stream.connection import Link
from connectors.redis_stream.failures import translated
from connectors.threads import watched

FIRST_DELAY, LONGEST_DELAY = 0.05, 5.0
"""Backoff in seconds while the server is away."""


class LinkThread:
    """Calls its work until that is over, or no call can succeed any more.

    While the server is away it connects anew, with backoff, and calls the work again.
    """

    def __init__(
        self, name: str, link: Link, work: Callable[[], bool], failed: Callable[[], None]
    ) -> None:
        """`work` returns whether it is over. It raises RedisError and FatalError, and says `is_well`.

        `failed` is told when `fatal` is set.
        """
        self._link = link
        self._work = work
        self._failed = failed
        self._delay = FIRST_DELAY
        self._stop = threading.Event()
        self.status = ""
        """What the server does not do; "" when all is well."""
        self.fatal: FatalError | None = None
        self._thread = threading.Thread(
            target=watched(name, self._run, self._fail), name=name, daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Whether the work is to come to its end."""
        return self._stop.is_set()

    def is_well(self) -> None:
        """Say that the server answers."""
        self.status, self._delay = "", FIRST_DELAY

    def ask_to_end(self) -> None:
        """Let the work be called once more at the most."""
        self._stop.set()

    def join(self, seconds: float) -> bool:
        """Wait for its end; return whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        last = False
        while not last:
            last = self.closing
            try:
                if self._work():
                    return
            except RedisError as error:
                known = translated(error, self._link.label)
                if isinstance(known, FatalError):
                    self._fail(known)
                    return
                self.status = known.message
                self._link.drop()
                self._stop.wait(self._delay)
                self._delay = min(2 * self._delay, LONGEST_DELAY)
            except FatalError as error:
                self._fail(error)
                return

    def _fail(self, error: FatalError) -> None:
        self.fatal = error
        self._failed()
