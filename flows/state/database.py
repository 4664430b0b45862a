"""One connection to the state's database: opening it, transactions, and losing it.

The connection is in the driver's autocommit mode, and transactions are opened in so many words:
SQLite's BEGIN IMMEDIATE takes the write lock first, so that nothing read inside can be stale, and
PostgreSQL's names its isolation whatever the server's default is.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy import __version__ as sqlalchemy_version
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from connectors.errors import FatalError, FlowFileError
from flows.state.failures import Stage, translate

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process's lock on SQLite's file or a row in PostgreSQL. Less than
a lease lasts, so that a worker kept waiting has time to try again."""

_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED"}

_POSTGRESQL_CONNECT = {
    "application_name": "penstock",
    "connect_timeout": "10",
    # A server that vanished is noticed within half a minute, not after the kernel's two hours.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

Result = TypeVar("Result")


class Database:
    """The connection of one store. Made anew when it is lost; never shared between threads."""

    def __init__(self, url: str, *, create: bool, read_only_for: float | None = None) -> None:
        """With `read_only_for` it can't change anything, and what takes longer (seconds) fails."""
        self._url = url
        parsed = _parse(url)
        self.dialect = parsed.get_backend_name()
        self._stage: Stage = "opening"
        self._connection: Connection | None = None
        if self.dialect == "sqlite":
            path = _file_of(parsed, create=create)
            self.label = str(path)
            self._engine = _sqlite_engine(path, create=create, read_only=read_only_for is not None)
        else:
            self.label = f"{parsed.host or 'localhost'}:{parsed.port or 5432}/{parsed.database}"
            self._engine = _postgresql_engine(parsed, read_only_for)

    def another(self) -> Database:
        """Return the same database on a connection of its own, for another thread."""
        return reopen(self._url)

    def opened(self) -> None:
        """Tell that it has worked once: from now on a lost server is waited for."""
        self._stage = "working"

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Call `work` with the connection; again, once, when that turns out to be lost.

        So `work` must bear being done twice. Raises FatalError or RetryableError.
        """
        again = self._connection is not None
        while True:
            try:
                connection = self._connected()
                return work(connection)
            except DBAPIError as error:
                self._drop()
                if again and error.connection_invalidated:
                    again = False
                    continue
                raise translate(error, self.label, self._stage) from error
            except BaseException:
                self._drop()
                raise

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):
                connection.close()
        self._engine.dispose()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _drop(self) -> None:
        """Close the connection: its transaction goes with it, and nothing is left half open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):
                connection.invalidate()
            with suppress(DBAPIError):
                connection.close()


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Write within one transaction. An error leaves it open: `Database.run` drops the connection."""
    connection.exec_driver_sql(_BEGIN[connection.dialect.name])
    yield
    connection.exec_driver_sql("COMMIT")


@contextmanager
def patient(connection: Connection) -> Iterator[None]:
    """Wait up to a minute for locks: another process may be migrating a large database."""
    setting = "PRAGMA busy_timeout = {}"
    if connection.dialect.name == "postgresql":
        setting = "SET lock_timeout = {}"
    connection.exec_driver_sql(setting.format(60_000))
    yield
    connection.exec_driver_sql(setting.format(int(BUSY_TIMEOUT * 1000)))


def reopen(url: str) -> Database:
    """Return a database that this process has worked with, on a connection of its own.

    It connects when it is first asked; a server that is away then is waited for, as one that is lost.
    """
    database = Database(url, create=False)
    database.opened()
    return database


def _read_url(url: str) -> URL:
    """Return the URL's parts. Raises ArgumentError, ValueError."""
    parsed = make_url(url)
    if sqlalchemy_version.startswith("2.0.") and parsed.database:
        # SQLAlchemy 2.0, the last for Python 3.10, leaves the database's name as it is quoted.
        return parsed.set(database=unquote(parsed.database))
    return parsed


def _parse(url: str) -> URL:
    try:
        parsed = _read_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise _bad_url("the URL of the state store can't be read.") from None
    if backend == "postgres":
        parsed, backend = parsed.set(drivername="postgresql"), "postgresql"
    if backend not in _BEGIN:
        raise _bad_url(f"the state store can't be kept in {backend}.")
    if parsed.drivername == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise _bad_url(f"the state store is not reached by {parsed.drivername}.")
    return parsed


def _bad_url(message: str) -> FlowFileError:
    return FlowFileError(
        message,
        code="state_url",
        hint="Write sqlite:///relative.db, sqlite:////absolute.db or"
        " postgresql://user:password@host:5432/database.",
    )


# --- SQLite -----------------------------------------------------------------------------------


def _file_of(url: URL, *, create: bool) -> Path:
    if url.database in {None, "", ":memory:"} or url.query:
        raise _bad_url("the state store must be a file: what is kept in memory is lost.")
    if sqlite3.sqlite_version_info < (3, 35):
        raise FatalError(
            f"this Python's SQLite is {sqlite3.sqlite_version}; the state store needs 3.35.",
            code="state_sqlite_old",
            hint="Use a newer Python build, or PostgreSQL.",
        )
    path = Path(str(url.database)).absolute()
    if not path.parent.is_dir():
        raise FatalError(
            f"the folder of the state store does not exist: {path.parent}.",
            code="state_no_folder",
            hint="Create it, or name another place in state.url or PENSTOCK_STATE_URL.",
        )
    if path.is_dir():
        raise FatalError(
            f"the state store {path} is a folder.",
            code="state_cannot_open",
            hint="Name a file in it, such as penstock.db.",
        )
    if not create and not path.exists():
        raise missing(str(path))
    return path


def missing(label: str) -> FatalError:
    """Return the error for a store that was to be read and isn't there."""
    return FatalError(
        f"there is no state at {label}.",
        code="state_missing",
        hint="Has the flow run yet? Check state.url, PENSTOCK_STATE_URL and the folder you are in.",
    )


def _sqlite_engine(path: Path, *, create: bool, read_only: bool = False) -> Engine:
    uri = f"file:{quote(str(path))}?mode={'rwc' if create else 'rw'}"

    def connect() -> sqlite3.Connection:
        # `open` and `close` may be another thread's than the one that works.
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            else:
                _set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    return create_engine(
        "sqlite://", creator=connect, poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )


def _set_up(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        _switch_to_wal(connection)
    # FULL in WAL mode: the log is flushed to the disk before a commit returns.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if sys.platform == "darwin":
        connection.execute("PRAGMA fullfsync = ON")  # its fsync leaves data in the drive's cache


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on.

    Of two processes that do so at once SQLite lets none wait: it answers "locked" at once,
    whatever the busy timeout.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


# --- PostgreSQL -------------------------------------------------------------------------------


def _postgresql_engine(url: URL, read_only_for: float | None = None) -> Engine:
    wanted = {k: v for k, v in _POSTGRESQL_CONNECT.items() if k not in url.query}
    engine = create_engine(
        url.update_query_dict(wanted), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    event.listen(engine, "connect", _set_up_session)
    if read_only_for is not None:
        timeout = f"{int(read_only_for * 1000)}ms"
        event.listen(engine, "connect", lambda connection, _: _only_read(connection, timeout))
    return engine


def _set_up_session(connection: Any, _record: Any) -> None:
    timeout = f"{int(BUSY_TIMEOUT * 1000)}ms"
    connection.execute(
        "SELECT set_config('lock_timeout', %s, false),"
        # The server ends the transaction of a worker whose machine has gone.
        " set_config('idle_in_transaction_session_timeout', '60s', false),"
        # Durable when a commit returns, whatever the role's default is.
        " CASE WHEN current_setting('synchronous_commit') = 'off'"
        " THEN set_config('synchronous_commit', 'on', false) END",
        [timeout],
    )


def _only_read(connection: Any, timeout: str) -> None:
    connection.execute(
        "SELECT set_config('default_transaction_read_only', 'on', false),"
        " set_config('statement_timeout', %s, false)",
        [timeout],
    )
