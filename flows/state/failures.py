"""What a database error means to an operator: may it pass by itself, and what to do.

A full disk, a lock, a server that is away pass: RetryableError `state_unavailable`, and the flow
waits. A wrong password, a file that is not ours, a read-only folder don't: FatalError. Texts come
from the driver, never from SQLAlchemy: its own repeat the statement and its values.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

from sqlalchemy.exc import DBAPIError

from connectors.errors import FatalError, PenstockError, RetryableError

Stage = Literal["opening", "working"]

# SQLite's own error texts (sqlite3ErrStr in its main.c); Python 3.10 hands over no error number.
_SQLITE: tuple[tuple[str, str | None, str, str], ...] = (
    # text, code (None: retryable), what it means, hint
    (
        "database or disk is full",
        None,
        "the disk is full",
        "Free some space: the flow waits and goes on by itself.",
    ),
    (
        "disk i/o error",
        None,
        "the disk refuses to read or write",
        "Look for a full disk, a quota or a failing device; the flow waits and tries again.",
    ),
    (
        "is locked",
        None,
        "another process holds its lock",
        "Look for a backup or a shell with an open transaction on the file; the flow waits for it.",
    ),
    (
        "readonly database",
        "state_read_only",
        "it may not be written",
        "Let this user write the file and its folder (SQLite keeps -wal and -shm files beside it).",
    ),
    (
        "file is not a database",
        "state_not_a_database",
        "the file is not a SQLite database",
        "Name another file in state.url, or move this one away.",
    ),
    (
        "malformed",
        "state_corrupt",
        "the file is damaged",
        "Restore it from a backup, or try the sqlite3 command's .recover on a copy.",
    ),
    (
        "unable to open database file",
        "state_cannot_open",
        "the file can't be opened",
        "This user must be able to read and write the file and its folder.",
    ),
)

# SQLSTATE or its class → code (None: retryable), hint. The server's own sentence is the message.
_POSTGRESQL: dict[str, tuple[str | None, str]] = {
    "28": ("state_login_refused", "Check user and password in state.url or PENSTOCK_STATE_URL."),
    "3D": ("state_no_database", "Create the database: penstock makes its tables, not that."),
    "42501": ("state_denied", "The role needs CREATE on the schema and all rights on its tables."),
    "3F000": ("state_denied", "The role needs a schema it may create tables in (search_path)."),
    "25006": ("state_read_only", "It is a standby or read-only: connect to the primary."),
    "40": (None, "It is tried again."),
    "53": (None, "The server lacks disk, memory or connections; the flow waits for it."),
    "55P03": (None, "Another transaction holds a row of the state; the flow waits for it."),
    "57": (None, "The server is shutting down, starting or was told to stop this; it is retried."),
    "58": (None, "The server has trouble with its own files: see its log; the flow waits for it."),
    "08": (None, "It is tried again."),
}


# libpq gives no SQLSTATE for a refused connection: the server's English text is all there is.
_POSTGRESQL_REFUSED = (
    ("password", "28"),
    ("authentication", "28"),
    ("pg_hba.conf", "28"),
    ('role "', "28"),
    ('database "', "3D"),
)
"""With its quotation mark: "the database system is shutting down" passes by itself."""


_TLS = ("certificate", "does not support SSL")
"""What libpq says where TLS fails; a server that is only away says neither."""


def translate(error: DBAPIError, label: str, stage: Stage) -> PenstockError:
    """Return the error an operator sees. `label` is the database's URL without a password."""
    # libpq asks "Is the server running on that host …?" on a line of its own: our hint does.
    said = [line for line in str(error.orig).splitlines() if not line.rstrip().endswith("?")]
    text = " ".join(" ".join(said).split()).rstrip(".")
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite(text, label)
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return _refused(text, label, stage)
    code, hint = _of_state(state)
    message = f"the state store {label} answered: {text}."
    if code is None:
        return RetryableError(message, code="state_unavailable", hint=hint, sqlstate=state)
    return FatalError(message, code=code, hint=hint, sqlstate=state)


def _sqlite(text: str, label: str) -> PenstockError:
    lower = text.lower()
    for known, code, meaning, hint in _SQLITE:
        if known not in lower:
            continue
        message = f"the state store {label} can't be used: {meaning} ({text})."
        if code is None:
            return RetryableError(message, code="state_unavailable", hint=hint)
        return FatalError(message, code=code, hint=hint)
    return FatalError(
        f"the state store {label} failed: {text}.",
        code="state_failed",
        hint="If the file was changed by something other than penstock, restore it from a backup.",
    )


def _refused(text: str, label: str, stage: Stage) -> PenstockError:
    """Return the error of a connection that was refused or lost."""
    if "FATAL:" in text and "too many connections" not in text:
        for known, state in _POSTGRESQL_REFUSED:
            if known in text.rpartition("FATAL:")[2]:
                code, hint = _POSTGRESQL[state]
                return FatalError(
                    f"the state store {label} refuses the login: {text}.",
                    code=code or "state_login_refused",
                    hint=hint,
                )
    if any(known in text for known in _TLS) and stage == "opening":
        return FatalError(
            f"the state store {label} can't be connected to over TLS: {text}.",
            code="state_tls",
            hint="Set sslrootcert in the state's URL to the PEM file of the server's authority, and "
            "with sslmode=verify-full write the host as the certificate does.",
        )
    message = f"the state store {label} can't be reached: {text}."
    if stage == "working":
        return RetryableError(
            message, code="state_unavailable", hint="The flow waits until it is back."
        )
    return FatalError(
        message,
        code="state_unreachable",
        hint="Is the server running, and are host and port in state.url right?",
        unreachable=True,
    )


def _of_state(state: str) -> tuple[str | None, str]:
    found = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    return found or ("state_failed", "See the server's log for the statement.")
