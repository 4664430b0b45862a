"""The event loop of a process's HTTP calls: on a thread of its own, shared by all steps."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, Thread
from typing import Any, TypeVar

_CLOSING = 3.0
"""Seconds that the thread has to end."""
_LOOKUPS = 16
"""Names looked up at the same time."""

T = TypeVar("T")


class HttpLoop:
    """Take it with `shared_loop`."""

    def __init__(self) -> None:
        self.users = 0
        self._loop = asyncio.new_event_loop()
        # For looking up names. One that a name server leaves waiting must not hold up a stop.
        self._lookups = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="http-lookup")
        self._loop.set_default_executor(self._lookups)
        self._thread = Thread(target=self._loop.run_forever, name="http-call", daemon=True)
        self._thread.start()

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop and return its result; blocks."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self) -> None:
        """End the thread, and those that look up names for it as they get done."""
        self._lookups.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING)
        if not self._thread.is_alive():
            self._loop.close()


_lock = Lock()
_shared: list[HttpLoop] = []


def shared_loop() -> HttpLoop:
    """Return the process's loop, started now if nobody has it; give it back with `release`."""
    with _lock:
        if not _shared:
            _shared.append(HttpLoop())
        _shared[0].users += 1
        return _shared[0]


def release(loop: HttpLoop) -> None:
    """Give the loop back; the last one to do so ends it."""
    with _lock:
        loop.users -= 1
        if loop.users or loop not in _shared:
            return
        _shared.remove(loop)
    loop.stop()
