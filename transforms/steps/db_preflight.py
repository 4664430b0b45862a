"""What `validate --connect` looks at for database steps: login, statement, rights. Runs nothing."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from connectors.contracts import Check
from connectors.errors import FatalError, PenstockError, RetryableError
from connectors.postgres_cdc.connection import one_line
from transforms.steps.db_calls import Asking
from transforms.steps.db_errors import statement_error
from transforms.steps.db_postgres import PostgresDatabase, parameters_of
from transforms.steps.db_sqlite import file_uri, sqlite_error

_EXPLAINED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|VALUES|WITH)\b", re.IGNORECASE)


def check_postgres(url: str, asking: Asking) -> Iterator[Check]:
    """Log in, and let the server plan the statement. Raises PenstockError where there is no login."""
    with closing(PostgresDatabase(url, asking)) as database, closing(database.open()) as connection:
        info = connection.info
        found = f"PostgreSQL {info.server_version // 10000}, database {info.dbname} as {info.user}"
        yield Check("connect", ok=True, found=found)
        sql = asking.statement.numbered()
        try:
            parameters_of(connection, sql)
        except psycopg.Error as error:
            failure = statement_error(error, asking.timeout, broken=connection.closed)
            yield _failed("statement", failure)
            return
        yield Check("statement", ok=True, found="its tables, columns and types are there")
        if _EXPLAINED.match(sql):
            yield from _rights(connection, sql, asking.statement.count)


def _rights(connection: psycopg.Connection[Any], sql: str, count: int) -> Iterator[Check]:
    """Let it be planned, which looks at the rights on tables and runs nothing."""
    given = f"({', '.join(['NULL'] * count)})" if count else ""
    try:
        connection.execute(f"PREPARE penstock_check AS {sql}".encode())
        connection.execute(f"EXPLAIN EXECUTE penstock_check{given}".encode())
    except psycopg.errors.InsufficientPrivilege as error:
        yield Check(
            "rights",
            ok=False,
            found=one_line(error),
            hint=f"GRANT {connection.info.user} what it needs, or log in as another role.",
        )
    except psycopg.Error:
        return  # it does not take NULLs, and events may never give it any
    else:
        yield Check("rights", ok=True, found=f"{connection.info.user} may run it")


def check_sqlite(path: str, asking: Asking) -> Iterator[Check]:
    """Open the file, and compile the statement."""
    file = Path(path)
    try:
        with closing(sqlite3.connect(file_uri(file), uri=True)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            yield Check("connect", ok=True, found=f"{file} is a SQLite database")
            if asking.changes:
                yield _writable(file)
            sql = asking.statement.marked()
            connection.execute(f"EXPLAIN {sql}", [None] * len(asking.statement.numbers)).close()
            yield Check("statement", ok=True, found="its tables and columns are there")
    except sqlite3.Error as error:
        failure = sqlite_error(error, asking.timeout)
        opened = not isinstance(failure, FatalError)
        yield _failed("statement" if opened else "connect", failure)


def _writable(file: Path) -> Check:
    """Say whether file and folder, where SQLite keeps its journal, may be written."""
    refused = [str(one) for one in (file, file.absolute().parent) if not os.access(one, os.W_OK)]
    return Check(
        "rights",
        ok=not refused,
        found=f"{' and '.join(refused)} can't be written" if refused else "it can be written",
        hint="The worker's account needs the right to write the file and its folder.",
    )


def _failed(name: str, error: PenstockError) -> Check:
    unreachable = isinstance(error, RetryableError)
    return Check(name, ok=False, found=error.message, hint=error.hint, unreachable=unreachable)
