"""SQLite for database steps: one connection, one transaction per batch, a savepoint per event."""

from __future__ import annotations

import math
import sqlite3
import time
from pathlib import Path
from typing import Any

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from transforms.steps.db_calls import (
    Along,
    Asking,
    Call,
    Chains,
    Outcomes,
    Result,
    Row,
    as_json_text,
    bytes_text,
    check_names,
    too_many_rows,
)

_STEPS = 2_000
"""Instructions of SQLite's between two looks at the clock."""
_BUSY = {5, 6, 261, 262, 517, 773}
"""SQLITE_BUSY, SQLITE_LOCKED and their kinds."""
_FATAL = {"unable to open database file", "file is not a database"}


class SqliteDatabase:
    """A database in a file that is there already."""

    def __init__(self, path: str, asking: Asking) -> None:
        self._path = Path(path)
        self._asking = asking
        self._sql = asking.statement.marked()
        self._connection: sqlite3.Connection | None = None
        self._deadline = math.inf

    def run(self, chains: Chains, along: Along | None = None) -> Outcomes:
        """Run the statements one after another, in the order of the events."""
        assert along is None, "outboxes are PostgreSQL's"  # noqa: S101 - the flow was checked
        calls = sorted((call for chain in chains for call in chain), key=lambda call: call.index)
        outcomes: dict[int, Result | PenstockError] = {}
        try:
            connection = self._connection or self._open()
            if not self._asking.changes:
                for call in calls:
                    outcomes[call.index] = self._one(connection, call)
                return outcomes
            self._in_one_transaction(connection, calls, outcomes)
        except sqlite3.Error as error:
            # Nothing of the batch is there: its transaction did not begin, or did not end well.
            failure = sqlite_error(error, self._asking.timeout)
            self.close()
            return {call.index: failure for call in calls}
        return outcomes

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            file_uri(self._path),
            uri=True,
            timeout=self._asking.timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.set_progress_handler(self._is_over, _STEPS)
        if not self._asking.changes:
            connection.execute("PRAGMA query_only = ON")
        self._connection = connection
        return connection

    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline

    def _in_one_transaction(
        self,
        connection: sqlite3.Connection,
        calls: list[Call],
        outcomes: dict[int, Result | PenstockError],
    ) -> None:
        """Keep every event's change or none of it: a failure goes back to the event's savepoint."""
        connection.execute("BEGIN IMMEDIATE")
        for call in calls:
            connection.execute("SAVEPOINT event")
            outcome = outcomes[call.index] = self._one(connection, call)
            if isinstance(outcome, PenstockError):
                # Raises if the failure was one that ended the whole transaction: a full disk.
                connection.execute("ROLLBACK TO event")
            connection.execute("RELEASE event")
        connection.execute("COMMIT")

    def _one(self, connection: sqlite3.Connection, call: Call) -> Result | PenstockError:
        asking = self._asking
        self._deadline = time.monotonic() + asking.timeout
        try:
            values = [_bound(call.params[number]) for number in asking.statement.numbers]
            cursor = connection.execute(self._sql, values)
            try:
                rows = self._rows(cursor)
            finally:
                cursor.close()
            return Result(rows, max(0, cursor.rowcount))
        except PermanentError as error:
            return error
        except sqlite3.Error as error:
            return sqlite_error(error, asking.timeout)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            return PermanentError(
                f"a value can't be bound: {error}.",
                code="db_params",
                hint="Check what `params` render to for this event.",
            )
        finally:
            self._deadline = math.inf

    def _rows(self, cursor: sqlite3.Cursor) -> list[Row]:
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        check_names(names)
        most = self._asking.max_rows
        if self._asking.only_first:
            found = cursor.fetchmany(1)
        else:
            found = cursor.fetchmany(most + 1)
            if len(found) > most:
                raise too_many_rows(most)
        return [dict(zip(names, map(_shown, row), strict=True)) for row in found]

    def close(self) -> None:
        """Close the connection; what was not committed is undone."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def file_uri(path: Path) -> str:
    """Return the URI by which SQLite opens a file that is there already."""
    return f"{path.absolute().as_uri()}?mode=rw"


def _bound(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return as_json_text(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return bytes_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def sqlite_error(error: sqlite3.Error, timeout: float) -> PenstockError:
    """Return what an error means to its event."""
    text = str(error)
    # Python 3.10 has no codes on its errors.
    code = getattr(error, "sqlite_errorcode", None)
    name = getattr(error, "sqlite_errorname", None)
    about = {} if name is None else {"sqlite_error": name}
    if text == "interrupted":
        return RetryableError(
            f"the statement took longer than {timeout:g}s.",
            code="db_timeout",
            hint="Nothing of it was kept. Raise `timeout`, or give the table an index.",
            **about,
        )
    if code in _BUSY or "is locked" in text:
        return RetryableError(
            f"SQLite is busy: {text}.",
            code="db_conflict",
            hint="Another process writes to the file; the statement may pass later.",
            **about,
        )
    if any(known in text for known in _FATAL):
        return FatalError(
            f"SQLite can't use the file: {text}.",
            code="db_unusable",
            hint="The file in `database` must be there and be a SQLite database.",
            **about,
        )
    if "disk I/O" in text or "is full" in text:
        return RetryableError(
            f"SQLite could not write: {text}.",
            code="db_unavailable",
            hint="Is the disk full?",
            **about,
        )
    if isinstance(error, sqlite3.IntegrityError):
        return PermanentError(
            f"the database refused the values: {text}.",
            code="db_constraint",
            hint="Correct the event or the statement, then replay it.",
            **about,
        )
    if "readonly" in text:
        return PermanentError(
            "the statement changes something, and step.db_query only reads.",
            code="db_read_only",
            hint="Use step.db_exec.",
            **about,
        )
    return PermanentError(
        f"the statement failed: {text}.",
        code="db_statement",
        hint="Correct the statement or the event, then replay it.",
        **about,
    )
