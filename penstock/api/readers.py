"""Threads that ask the state store, each with connections of its own.

They are few, and daemons: a store that hangs (a stopped PostgreSQL, a disk that is away) holds up
those who ask for it, and neither the server, nor the supervisor, nor the end of the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from queue import SimpleQueue
from typing import TypeVar

from connectors.errors import PenstockError
from flows.state.contracts import StateStore
from flows.state.reading import StateReader
from flows.state.store import open_store

THREADS = 4

Result = TypeVar("Result")


class Stores:
    """One thread's way to the state; opened when it is asked for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._reader: StateReader | None = None

    @property
    def reader(self) -> StateReader:
        """Return a connection that can't change anything. Raises PenstockError."""
        if self._reader is None:
            self._reader = StateReader(self._url)
        return self._reader

    @contextmanager
    def writer(self) -> Iterator[StateStore]:
        """Give a store that may write, and close it. Raises PenstockError."""
        with closing(open_store(self._url, create=False)) as store:
            yield store

    def close(self) -> None:
        """Close the reader; the next use opens another."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


_Job = tuple[Callable[[Stores], object], "Future[object]"]


class ReaderThreads:
    """Runs what blocks on the state store."""

    def __init__(self, url: str, threads: int = THREADS) -> None:
        self._url = url
        self._most = threads
        self._started = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def submit(self, work: Callable[[Stores], Result]) -> Future[Result]:
        """Run `work` on one of the threads. Cancel the future to take it back while it waits."""
        future: Future[Result] = Future()
        with self._lock:
            self._jobs.put((work, future))  # type: ignore[arg-type]  # of whatever work returns
            if self._jobs.qsize() > self._idle and self._started < self._most:
                self._started += 1
                name = f"api-state-{self._started}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Let the threads end when they are through with what they do; wait for none."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _run(self) -> None:
        stores = Stores(self._url)
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if job is None:
                stores.close()
                return
            work, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work(stores))
            except PenstockError as error:
                stores.close()
                future.set_exception(error)
            except BaseException as error:  # noqa: BLE001 - whoever asked is told
                stores.close()
                future.set_exception(error)
