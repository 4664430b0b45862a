"""The connections to PostgreSQL of one step, or of all steps that use one step module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Lock, Semaphore
from typing import Any

import psycopg
from psycopg import pq

from connectors.postgres_cdc.types import TypeCatalog


class Connection(psycopg.Connection[Any]):
    """A connection that gives up on a server which says nothing: no statement waits for ever."""

    patience: float | None = None
    """Seconds that one exchange with the server may take."""
    catalog: TypeCatalog
    """The server's types."""
    parameters: dict[str, list[int]]
    """Statement → the types of its parameters, once the server was asked."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server, and close the connection if it does not answer."""
        limit = self.patience if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as error:
            if error.sqlstate is None and not self.closed:
                self.close()  # no word of the server's: it did not answer
            raise

    @property
    def is_idle(self) -> bool:
        """Whether it is open and in no transaction."""
        return not self.closed and self.info.transaction_status == pq.TransactionStatus.IDLE


class Pool:
    """Keeps connections for later, and never has more than `most`, in use or not.

    `kind` tells connections apart that are set up in different ways. Used by many threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = Semaphore(most)
        self._lock = Lock()
        self._using = 0
        self._idle: list[tuple[object, Connection]] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Wait until one more connection may be in use."""
        with self._free:
            with self._lock:
                self._using += 1
            try:
                yield
            finally:
                with self._lock:
                    self._using -= 1

    def take(self, kind: object) -> Connection | None:
        """Return one that was kept; None when a new one is to be opened."""
        spare = None
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place][0] == kind:
                    return self._idle.pop(place)[1]
            if self._using + len(self._idle) > self._most:
                spare = self._idle.pop(0)[1]  # of another kind: it makes room
        if spare is not None:
            spare.close()
        return None

    def keep(self, kind: object, connection: Connection) -> None:
        """Keep one that is no longer used, if it can be used again."""
        if not connection.is_idle:
            connection.close()
            return
        with self._lock:
            self._idle.append((kind, connection))

    def close(self) -> None:
        """Close those that are kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()
