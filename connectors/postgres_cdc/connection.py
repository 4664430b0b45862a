"""Connect to the server, and say what a failure means: who has to act, and how."""

from __future__ import annotations

from typing import Any, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from connectors.errors import FatalError
from connectors.postgres_cdc.types import SESSION

Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT = 10
"""Seconds to wait for the server, where the connection string doesn't say."""

_LIVENESS = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""So that a server that is gone without a word is noticed within a minute."""

_TRANSIENT = (
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is in recovery mode",
    "the database system is not yet accepting connections",
    "too many clients already",
    "remaining connection slots are reserved",
    "terminating connection",
)

_REFUSED: tuple[tuple[str, str, str], ...] = (
    (
        "password authentication failed",
        "postgres_auth",
        "Check the user and password in `connection`.",
    ),
    ("no password supplied", "postgres_auth", "Put the password into `connection`."),
    (
        "no pg_hba.conf entry",
        "postgres_auth",
        "Add a line for this user, database and host to pg_hba.conf, and reload it.",
    ),
    ("authentication failed", "postgres_auth", "Check the user and how pg_hba.conf lets it in."),
    (
        "is not permitted to log in",
        "postgres_auth",
        "ALTER ROLE … LOGIN, or connect as another user.",
    ),
    (
        "permission denied to start wal sender",
        "postgres_no_replication_right",
        "ALTER ROLE … REPLICATION (managed services: grant their replication role instead).",
    ),
    (
        "must be superuser or replication role",
        "postgres_no_replication_right",
        "ALTER ROLE … REPLICATION (managed services: grant their replication role instead).",
    ),
    (
        "certificate",
        "postgres_tls",
        "Set sslrootcert in `connection` to its authority's PEM file, and write the certificate's host.",
    ),
    (
        "does not support ssl",
        "postgres_tls",
        "Switch ssl on in the server, or choose another sslmode in `connection`.",
    ),
)


def _merged(connection: str, application: str, **more: Any) -> str:
    given = conninfo_to_dict(connection)
    options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    options += " -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
    merged: dict[str, Any] = {"application_name": application, **_LIVENESS, **given}
    merged["options"] = f"{given.get('options') or ''} {options}".strip()
    merged["client_encoding"] = "UTF8"
    return make_conninfo("", **{**merged, **more})


def connect(
    connection: str,
    application: str,
    *,
    replication: bool = False,
    kind: type[Connection] = psycopg.Connection,
) -> Connection:
    """Connect in autocommit mode, with the session settings that decoding relies on.

    `kind` is the class of the connection. Blocks up to the connect timeout. Raises psycopg.Error; see `connect_error`.
    """
    more = {"replication": "database"} if replication else {}
    return kind.connect(
        _merged(connection, application, **more),
        autocommit=True,
        row_factory=tuple_row,
        prepare_threshold=None,
    )


def take_bytes_as_they_are(connection: Connection, *, utf8: bool) -> None:
    """Switch the conversion to UTF-8 off where the server does not know what its text is.

    A database in SQL_ASCII may hold anything; asked for UTF-8 the server would refuse the first row
    that isn't, and with it every row after.
    """
    if not utf8:
        connection.execute("SET client_encoding TO 'SQL_ASCII'")


Verdict = Literal["retry", "fatal"]


def verdict(error: psycopg.Error) -> Verdict:
    """Say whether an error can pass by itself: a connection that is away, not one refused."""
    text = str(error).lower()
    if any(known in text for known in _TRANSIENT):
        return "retry"
    if error.sqlstate is None:
        return "fatal" if any(known in text for known, _, _ in _REFUSED) else "retry"
    # 08 connection, 53 resources, 55006 in use, 57 operator, 58 system, XX internal
    return "retry" if error.sqlstate[:2] in ("08", "53", "57", "58", "XX", "40") else "fatal"


def one_line(error: BaseException) -> str:
    """Return an error's text on one line, without the statement it quotes."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    # libpq asks "Is the server running on that host …?" on a line of its own: our hint does.
    kept = [
        line
        for line in lines
        if line and not line.startswith(("LINE ", "^")) and not line.endswith("?")
    ]
    return " ".join(kept) or type(error).__name__


def connect_error(error: psycopg.Error) -> FatalError:
    """Return what a failed connection or query means to the operator."""
    text = one_line(error)
    lowered = text.lower()
    for known, code, hint in _REFUSED:
        if known in lowered:
            return FatalError(f"PostgreSQL refused the connection: {text}.", code=code, hint=hint)
    if (
        "does not exist" in lowered
        and error.sqlstate is None
        and ("database" in lowered or "role" in lowered)
    ):
        return FatalError(
            f"PostgreSQL refused the connection: {text}.",
            code="postgres_auth",
            hint="Check the user and the database in `connection`.",
        )
    if error.sqlstate is None or verdict(error) == "retry":
        return FatalError(
            f"PostgreSQL can't be reached: {text}.",
            code="postgres_unreachable",
            hint="Check host and port in `connection`, and that the server runs.",
            unreachable=True,
        )
    if error.sqlstate == "42501":
        return FatalError(
            f"PostgreSQL denied a permission: {text}.",
            code="postgres_permission",
            hint="Grant it to the user in `connection`.",
            sqlstate=error.sqlstate,
        )
    return FatalError(
        f"PostgreSQL refused: {text}.",
        code="postgres_refused",
        hint="See the server's log.",
        sqlstate=error.sqlstate,
    )


def connect_or_fail(connection: str, application: str, *, replication: bool = False) -> Connection:
    """Connect as `connect`; raises FatalError."""
    try:
        return connect(connection, application, replication=replication)
    except psycopg.Error as error:
        raise connect_error(error) from error


def error_context(error: psycopg.Error) -> dict[str, Any]:
    """Return the SQLSTATE and what the server says the error is about; no values."""
    diagnosis = error.diag
    found = {
        "sqlstate": error.sqlstate,
        "constraint": diagnosis.constraint_name,
        "table": diagnosis.table_name,
        "column": diagnosis.column_name,
    }
    return {name: value for name, value in found.items() if value}
