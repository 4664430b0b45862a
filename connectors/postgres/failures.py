"""What an error of PostgreSQL means to the events of a statement: by SQLSTATE (manual, appendix A)."""

from __future__ import annotations

import psycopg

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.postgres_cdc.connection import connect_error, error_context, one_line

_OF_ALL = {"42P01", "42501", "3F000", "3D000"}
"""undefined table, insufficient privilege, undefined schema, undefined database: no event can pass"""
_MEETS_ANOTHER = {"55P03", "55006"}
"""lock not available, object in use"""


def meets_another(error: psycopg.Error) -> bool:
    """Whether the transaction may pass if it is run again at once: a deadlock, a serialization failure."""
    return (error.sqlstate or "")[:2] == "40"


def of_one_event(error: psycopg.Error) -> bool:
    """Whether an event of the statement may be to blame, and the others pass without it."""
    state = error.sqlstate or ""
    if not state or state in _OF_ALL or state in _MEETS_ANOTHER or state == "25006":
        return False
    return state[:2] not in {"08", "28", "40", "53", "55", "57", "58", "XX"}


def event_error(error: psycopg.Error) -> PermanentError:
    """Return the error of the one event that a statement was about."""
    state = error.sqlstate or ""
    text = one_line(error).rstrip(".")
    if state[:2] == "23":
        return PermanentError(
            f"the table refused the row: {text}.",
            code="postgres_constraint",
            hint="Correct the event or the table, then replay it.",
            **error_context(error),
        )
    if state[:2] == "22":
        return PermanentError(
            f"the row's values don't fit the table: {text}.",
            code="postgres_value",
            hint="Correct the event, the mapping in `columns`, or the column's type; then replay it.",
            **error_context(error),
        )
    return PermanentError(
        f"the row can't be written: {text}.",
        code="postgres_statement",
        hint="Correct the event or the table, then replay it.",
        **error_context(error),
    )


def batch_error(error: psycopg.Error, timeout: float) -> PenstockError:
    """Return what an error means that concerns all events of the batch alike."""
    state = error.sqlstate or ""
    text = one_line(error).rstrip(".")
    if state in _OF_ALL:
        return FatalError(
            f"the table can't be written to: {text}.",
            code="postgres_refused",
            hint="`penstock validate --connect` says what is missing.",
            **error_context(error),
        )
    if state == "57014":
        return RetryableError(
            f"writing took longer than {timeout:g}s.",
            code="postgres_timeout",
            hint="Nothing of it was kept; it is tried again. Raise `statement_timeout`, lower"
            " `batch_size`, or look for what holds a lock on the table.",
            **error_context(error),
        )
    if state[:2] == "40" or state in _MEETS_ANOTHER:
        return RetryableError(
            f"writing met another transaction: {text}.",
            code="postgres_conflict",
            hint="Nothing of it was kept; it is tried again.",
            **error_context(error),
        )
    return RetryableError(
        f"PostgreSQL did not finish writing: {text}.",
        code="postgres_unavailable",
        hint="It is tried again once the server answers; what was committed is not written twice.",
        **error_context(error),
    )


def connecting_error(error: psycopg.Error) -> PenstockError:
    """Return what a connection means that could not be made while the flow runs."""
    found = connect_error(error)
    if not found.unreachable:
        return found
    return RetryableError(
        found.message,
        code="postgres_unavailable",
        hint="It is tried again once the server answers.",
    )
