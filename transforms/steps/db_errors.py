"""What an error of PostgreSQL means to its event: by SQLSTATE, as the manual's appendix A lists them."""

from __future__ import annotations

import psycopg

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.postgres_cdc.connection import error_context, one_line, verdict

_CONFLICTS = {"40001", "40P01", "55P03", "55006"}
"""serialization failure, deadlock, lock not available, object in use"""
_REFUSED = {"28", "3D"}
"""invalid authorization, no such database"""


def connecting_error(error: psycopg.Error) -> PenstockError:
    """Return what a connection that was not made means."""
    text = one_line(error)
    missing = "does not exist" in text and ("database" in text or "role" in text)
    if missing or verdict(error) == "fatal" or (error.sqlstate or "")[:2] in _REFUSED:
        return FatalError(
            f"PostgreSQL refused the connection: {text}.",
            code="db_refused",
            hint="Check user, password and database in `database`.",
            **error_context(error),
        )
    return RetryableError(
        f"PostgreSQL can't be reached: {text}.",
        code="db_unavailable",
        hint="The statement was not sent. Is the server running, and `database` right?",
        effect="none",
        **error_context(error),
    )


def statement_error(error: psycopg.Error, timeout: float, *, broken: bool) -> PenstockError:
    """Return what a failed statement means. `broken`: its connection is gone with it."""
    state = error.sqlstate or ""
    text = one_line(error).rstrip(".")
    about = error_context(error)
    if state == "57014":
        return RetryableError(
            f"the statement took longer than {timeout:g}s.",
            code="db_timeout",
            hint="Nothing of it was kept. Raise `timeout`, or give the table an index.",
            **about,
        )
    if state in _CONFLICTS or state[:2] == "40":
        return RetryableError(
            f"the statement met another transaction: {text}.",
            code="db_conflict",
            hint="Nothing of it was kept; it may pass when tried again.",
            **about,
        )
    if broken or state[:2] in {"08", "53", "57", "58", "XX"}:
        if not broken:
            about["effect"] = "none"  # the server has told us, so it has rolled back
        return RetryableError(
            f"PostgreSQL did not finish the statement: {text}.",
            code="db_unavailable",
            hint="If the connection broke, the statement may have taken effect.",
            **about,
        )
    if state[:2] == "23":
        return PermanentError(
            f"the database refused the values: {text}.",
            code="db_constraint",
            hint="Correct the event or the statement, then replay it.",
            **about,
        )
    if state == "25006":
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
