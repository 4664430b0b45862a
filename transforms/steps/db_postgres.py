"""PostgreSQL for database steps: pooled connections, values bound by the server, text decoded exactly."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.generators import execute
from psycopg.rows import tuple_row

from connectors.errors import PenstockError
from connectors.failpoints import fail_point
from connectors.postgres_cdc.types import SESSION, TYPES_SQL, TypeCatalog
from transforms.steps.db_calls import (
    Along,
    Asking,
    Call,
    Chains,
    Outcomes,
    Result,
    check_names,
    too_many_rows,
)
from transforms.steps.db_errors import connecting_error, statement_error
from transforms.steps.db_pool import Connection, Pool
from transforms.steps.db_values import bound, loaders_of
from transforms.steps.outbox_table import OutboxTable

_CONNECT_TIMEOUT = 10
_GRACE = 10.0
"""Seconds that the server gets to end a statement by itself, before the connection is given up."""
_TOGETHER = 100
"""Statements sent at once, in one transaction."""
_CHUNK = 100
"""Rows that a query's answer is read in."""

Rows = list[dict[str, Any]]


class _UnreachableError(Exception):
    """No connection can be had; `failure` is what that means to the events."""

    def __init__(self, failure: PenstockError) -> None:
        super().__init__()
        self.failure = failure


class PostgresDatabase:
    """Connections of a pool, opened when needed and looked at before they are used."""

    def __init__(
        self,
        url: str,
        asking: Asking,
        pool: Pool | None = None,
        table: OutboxTable | None = None,
    ) -> None:
        """`pool` is shared with other steps; without one the step has its own. `table`: its outbox."""
        self._asking = asking
        self._sql = asking.statement.numbered()
        self._conninfo = _conninfo(url, asking)
        self._table = table
        # Connections of a step with an outbox have seen that the table is there.
        self._kind = (self._conninfo, asking.numeric_as_number, table.name if table else None)
        self._pool = pool or Pool(asking.connections)
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(asking.connections, thread_name_prefix="db-step")

    def run(self, chains: Chains, along: Along | None = None) -> Outcomes:
        """Share the chains out between connections, and wait until all are through."""
        outcomes: dict[int, Result | PenstockError] = {}
        waiting = deque(chains)
        workers = min(self._asking.connections, len(chains))
        if workers <= 1:
            self._work(waiting, outcomes, along)
            return outcomes
        # No result is used but an exception's: an error of ours must not pass as "no outcome".
        running = [
            self._threads.submit(self._work, waiting, outcomes, along) for _ in range(workers)
        ]
        for done in running:
            done.result()
        return outcomes

    def _work(
        self,
        waiting: deque[Sequence[Call]],
        outcomes: dict[int, Result | PenstockError],
        along: Along | None,
    ) -> None:
        with self._pool.one():
            self._work_through(waiting, outcomes, along)

    def _work_through(
        self,
        waiting: deque[Sequence[Call]],
        outcomes: dict[int, Result | PenstockError],
        along: Along | None,
    ) -> None:
        connection: Connection | None = None
        calls: list[Call] = []
        try:
            while calls := self._next(waiting):
                if len(calls) > 1 and self._asking.changes:
                    connection = self._all_at_once(connection, calls, outcomes, along)
                for call in calls:
                    if call.index not in outcomes:
                        connection = self._alone(connection, call, outcomes, along)
        except _UnreachableError as error:
            # Not once per call: each may have to wait until connecting has timed out.
            with self._lock:
                calls += [call for chain in waiting for call in chain]
                waiting.clear()
            for call in calls:
                outcomes.setdefault(call.index, error.failure)
        finally:
            if connection is not None:
                self._pool.keep(self._kind, connection)

    def _next(self, waiting: deque[Sequence[Call]]) -> list[Call]:
        """Take whole chains, so that calls of one key stay in order on one connection."""
        calls: list[Call] = []
        most = _TOGETHER if self._asking.changes else 1
        with self._lock:
            share = max(1, min(most, -(-len(waiting) // self._asking.connections)))
            while waiting and len(calls) < share:
                calls += waiting.popleft()
        return calls

    def _all_at_once(
        self,
        connection: Connection | None,
        calls: Sequence[Call],
        outcomes: dict[int, Result | PenstockError],
        along: Along | None,
    ) -> Connection:
        """Run all in one transaction and one round trip; return the connection to go on with.

        When one fails, nothing of it is kept and there are no outcomes: then each is to be run by
        itself, so that the one which fails undoes none of the others.
        """
        connection = self._usable(connection)
        committing = False
        results: dict[int, Result] = {}
        try:
            values = [self._values(connection, call) for call in calls]
            cursors = [psycopg.RawCursor(connection) for _ in calls]
            with connection.pipeline() as pipeline, connection.transaction():
                for cursor, each in zip(cursors, values, strict=True):
                    cursor.execute(self._sql, each)
                pipeline.sync()
                for call, cursor in zip(calls, cursors, strict=True):
                    results[call.index] = self._result(cursor)
                if along is not None:
                    self._write_along(connection, along, results)
                    pipeline.sync()
                    fail_point("before_outbox_commit")
                committing = True
        except (psycopg.Error, PenstockError) as error:
            if committing and connection.closed and isinstance(error, psycopg.Error):
                # It may have been committed: to run it again could do it twice.
                failure = self._failure(error, connection)
                outcomes |= dict.fromkeys([call.index for call in calls], failure)
            elif not connection.is_idle:
                connection.close()
            return connection
        outcomes |= results
        if along is not None:
            _committed(along)
        return connection

    def _write_along(
        self, connection: Connection, along: Along, results: dict[int, Result]
    ) -> None:
        """Write what these results have published. Raises PenstockError where one can't be."""
        assert self._table is not None  # noqa: S101 - the step was made with one
        rows, errors = along.rows(results)
        if errors:
            raise next(iter(errors.values()))
        self._table.insert(connection, rows)

    def _alone(
        self,
        connection: Connection | None,
        call: Call,
        outcomes: dict[int, Result | PenstockError],
        along: Along | None,
    ) -> Connection:
        """Run one statement in a transaction of its own; return the connection to go on with."""
        connection = self._usable(connection)
        try:
            values = self._values(connection, call)
            if along is None:
                outcomes[call.index] = self._asked(connection, values)
            else:
                with connection.transaction():
                    result = self._asked(connection, values)
                    self._write_along(connection, along, {call.index: result})
                    fail_point("before_outbox_commit")
                outcomes[call.index] = result
                _committed(along)
        except PenstockError as error:
            outcomes[call.index] = error
        except psycopg.Error as error:
            outcomes[call.index] = self._failure(error, connection)
        return connection

    def _asked(self, connection: Connection, values: Sequence[Any]) -> Result:
        cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
        if self._asking.changes:
            # Not streamed: once it is sent, it must be let through to its end.
            cursor.execute(self._sql, values)
            return self._result(cursor)
        most = 1 if self._asking.only_first else self._asking.max_rows
        rows: Rows = []
        size = _CHUNK if psycopg.capabilities.has_stream_chunked() else 1
        size = 1 if self._asking.only_first else size
        with contextlib.closing(cursor.stream(self._sql, values, size=size)) as stream:  # type: ignore[type-var]  # a generator
            names: list[str] = []
            for row in stream:
                if not names:
                    names = [column.name for column in cursor.description or ()]
                    check_names(names)
                if len(rows) == most:
                    raise too_many_rows(most)
                rows.append(dict(zip(names, row, strict=True)))
                if self._asking.only_first:
                    break
        return Result(rows, 0)

    def _result(self, cursor: psycopg.RawCursor[Any]) -> Result:
        rows: Rows = []
        if cursor.description is not None:
            names = [column.name for column in cursor.description]
            check_names(names)
            found = cursor.fetchmany(self._asking.max_rows + 1)
            if len(found) > self._asking.max_rows:
                raise too_many_rows(self._asking.max_rows)
            rows = [dict(zip(names, row, strict=True)) for row in found]
        return Result(rows, max(0, cursor.rowcount))

    def _values(self, connection: Connection, call: Call) -> list[Any]:
        """Return the parameters as the server's types want them. Raises PermanentError."""
        if not call.params:
            return []
        oids = connection.parameters.get(self._sql)
        if oids is None:
            oids = connection.parameters[self._sql] = parameters_of(connection, self._sql)
        kinds = [connection.catalog.resolve(oid) for oid in oids]
        return [bound(value, kind) for value, kind in zip(call.params, kinds, strict=True)]

    def _usable(self, connection: Connection | None) -> Connection:
        """Return the connection, an idle one that answers, or a new one. Raises _UnreachableError."""
        if connection is not None and not connection.closed:
            return connection
        while True:
            idle = self._pool.take(self._kind)
            if idle is None:
                try:
                    return self.open()
                except PenstockError as error:
                    raise _UnreachableError(error) from None
            try:
                # The server may have been restarted since: better known before than after.
                idle.execute("")
            except psycopg.Error:
                idle.close()
            else:
                return idle

    def open(self) -> Connection:
        """Return a new connection, which is the caller's to close. Raises PenstockError."""
        try:
            return self._connected()
        except psycopg.Error as error:
            raise connecting_error(error) from None

    def _connected(self) -> Connection:
        connection: Connection = Connection.connect(
            self._conninfo, autocommit=True, row_factory=tuple_row, prepare_threshold=None
        )
        try:
            connection.patience = self._asking.timeout + _GRACE
            types = connection.execute(TYPES_SQL).fetchall()
            catalog = TypeCatalog(types)
            oids = [row[0] for row in types]
            as_number = self._asking.numeric_as_number
            made = loaders_of(catalog, oids, numeric_as_number=as_number)
            for oid, loader in made.items():
                connection.adapters.register_loader(oid, loader)
            connection.catalog, connection.parameters = catalog, {}
            if self._table is not None:
                self._table.ensure(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _failure(self, error: psycopg.Error, connection: Connection) -> PenstockError:
        return statement_error(error, self._asking.timeout, broken=connection.closed)

    def close(self) -> None:
        """Close the connections and end the threads."""
        self._threads.shutdown()
        self._pool.close()


def _committed(along: Along) -> None:
    fail_point("after_outbox_commit")
    along.outbox.wake()


def _conninfo(url: str, asking: Asking) -> str:
    given = conninfo_to_dict(url)
    # Values are read as these settings write them. Row-level security stays what it is: a step may
    # well be meant to see only what its user may.
    settings = {name: value for name, value in SESSION.items() if name != "row_security"}
    settings["statement_timeout"] = str(max(1, round(asking.timeout * 1000)))
    if not asking.changes:
        settings["default_transaction_read_only"] = "on"
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    merged: dict[str, Any] = {
        "application_name": "penstock step",
        "connect_timeout": _CONNECT_TIMEOUT,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
        **given,
        "options": f"{given.get('options') or ''} {options}".strip(),
        "client_encoding": "UTF8",
    }
    return make_conninfo("", **merged)


def parameters_of(connection: Connection, sql: str) -> list[int]:
    """Ask the server what types the statement's parameters have. Raises psycopg.Error."""
    connection.pgconn.send_prepare(b"", sql.encode())
    _checked(connection)
    connection.pgconn.send_describe_prepared(b"")
    found = _checked(connection)
    return [found.param_type(number) for number in range(found.nparams)]


def _checked(connection: Connection) -> Any:
    result = connection.wait(execute(connection.pgconn))[-1]
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)
    return result
