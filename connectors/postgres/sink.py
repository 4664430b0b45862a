"""`sink.postgres`: a batch is one transaction, with its rows and the ids of its events in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import psycopg

from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.postgres import failures
from connectors.postgres.positions import Positions, digests
from connectors.postgres.preflight import checks
from connectors.postgres.rows import Planned, RowPlanner
from connectors.postgres.session import open_session
from connectors.postgres.settings import PostgresSink as PostgresSinkSettings
from connectors.postgres.statements import Writing, statement
from connectors.postgres.table import TableShape, keys_of, parse_table, read_shape
from connectors.postgres_cdc.connection import Connection, connect_error
from connectors.rendering import context_of

_TRIES = 5
"""How often a batch that met another transaction, or whose commit is in doubt, is tried at once."""

Evaluate = Callable[[Mapping[str, Any]], Any]


class PostgresSink:
    """The sink. One connection, used on the dataflow's thread alone."""

    def __init__(self, name: str, settings: PostgresSinkSettings) -> None:
        self._name = name
        self._settings = settings
        self._table = parse_table(settings.table)
        self._positions: Positions | None = None
        if settings.position_table is not None:
            self._positions = Positions(parse_table(settings.position_table))
        self.traits = SinkTraits(
            ordered=True,
            delivery="at_least_once" if self._positions is None else "effectively_once",
            embeds=True,
        )
        self._connection: Connection | None = None
        self._shape: TableShape
        self._keys: tuple[str, ...] = ()
        self._planner: RowPlanner
        self._statements: dict[Writing, str] = {}
        self._columns: dict[str, Evaluate] | None = None

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:  # noqa: ARG002 - a table has none
        """Look at the table, its keys and columns, and the rights to it."""
        return checks(self._settings)

    def open(self, opening: SinkOpening) -> None:
        """Connect, read the table from the catalog, and find what was written and not settled."""
        if self._settings.columns is not None:
            if opening.compile_jq is None:
                raise FatalError(
                    "`columns` are jq programs, and there is nothing to run them with.",
                    code="template_compiler",
                    hint="Open the sink with SinkOpening.compile_jq.",
                )
            compile_jq = opening.compile_jq
            self._columns = {
                name: compile_jq(text) for name, text in self._settings.columns.items()
            }
        try:
            connection = open_session(self._settings.connection, self._settings.statement_timeout)
        except psycopg.Error as error:
            raise connect_error(error) from error
        try:
            self._look_at_table(connection)
            if self._positions is not None:
                family = f"{opening.flow}/{self._name}"
                self._positions.open(connection, opening.state, family)
        except psycopg.Error as error:
            connection.close()
            raise connect_error(error) from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def undo_unsettled(self, state: Mapping[str, str]) -> None:
        """Leave to other writers the knowledge of what a lost one has written.

        Rows stay where they are: their events come again through a writer that knows them then.
        """
        if self._positions is None or not state:
            return
        try:
            with open_session(
                self._settings.connection, self._settings.statement_timeout
            ) as connection:
                Positions(self._positions.name).hand_over(connection, state)
        except psycopg.Error as error:
            raise connect_error(error) from error

    def _look_at_table(self, connection: Connection) -> None:
        self._shape = read_shape(connection, self._table)
        if self._settings.mode != "insert":
            self._keys = keys_of(self._shape, self._settings.keys)
        self._planner = RowPlanner(self._settings, self._shape, self._keys)
        self._statements = {}

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Write the rows in one transaction and wait for its commit."""
        if not len(events):
            return {}
        mapped, unmapped = self._mapped(events)
        ids: list[bytes] = []
        positions = self._positions
        if positions is not None and positions.keeps:
            attributes = events.attributes()
            named = attributes["id"]
            listed = named if isinstance(named, list) else [str(named)] * len(events)
            source: Any = attributes.get("source", "")
            ids = digests(listed, source)
        error: PenstockError | None = None
        for _ in range(_TRIES):
            try:
                return {**unmapped, **self._write(events, mapped, ids)}
            except psycopg.Error as failed:
                error = self._outcome_of(failed)
                if error is not None:
                    break
            except PenstockError as failed:
                error = failed
                break
        if error is None:
            error = RetryableError(
                "writing met other transactions again and again.",
                code="postgres_conflict",
                hint="Nothing of it was kept; it is tried again.",
            )
        return {**dict.fromkeys(range(len(events)), error), **unmapped}

    def _outcome_of(self, error: psycopg.Error) -> PenstockError | None:
        """Return what the events get; None when the batch is to be tried again at once."""
        try:
            return self._gave_up(error)
        except psycopg.Error as second:
            self._drop()
            return failures.batch_error(second, self._settings.statement_timeout)
        except FatalError as second:
            return second

    def _gave_up(self, error: psycopg.Error) -> PenstockError | None:
        connection, positions = self._connection, self._positions
        if connection is None or connection.closed or connection.broken:
            self._drop()
            return failures.batch_error(error, self._settings.statement_timeout)
        if positions is not None and positions.is_taken(error):
            positions.resolve(connection)
            return None
        if failures.meets_another(error):
            return None
        if error.sqlstate in _TABLE_CHANGED:
            self._look_at_table(connection)
            return None
        if error.sqlstate == "25006":
            self._drop()  # a primary that has become a standby: the address may lead elsewhere now
        return failures.batch_error(error, self._settings.statement_timeout)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _mapped(
        self, events: Outgoing
    ) -> tuple[dict[int, dict[str, Any]] | None, dict[int, PenstockError]]:
        """Return the rows that `columns` make, by place; None where it is not set."""
        if self._columns is None:
            return None, {}
        attributes = events.attributes()
        rows: dict[int, dict[str, Any]] = {}
        failed: dict[int, PenstockError] = {}
        for place, value in enumerate(events.values):
            context = context_of(attributes, value, place)
            try:
                rows[place] = {name: made(context) for name, made in self._columns.items()}
            except PermanentError as error:
                failed[place] = error
        return rows, failed

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is None:
            try:
                connection = open_session(
                    self._settings.connection, self._settings.statement_timeout
                )
            except psycopg.Error as error:
                raise failures.connecting_error(error) from error
            self._connection = connection
            self._look_at_table(connection)
        return connection

    def _write(
        self,
        events: Outgoing,
        mapped: dict[int, dict[str, Any]] | None,
        ids: Sequence[bytes],
    ) -> dict[int, PenstockError]:
        """Write what was not written before; return what failed. Raises psycopg.Error."""
        connection = self._connected()
        planned = self._planner.plan(events, mapped)
        if self._planner.has_unknown:
            # The table may have got the column since it was looked at.
            self._look_at_table(connection)
            planned = self._planner.plan(events, mapped)
            self._planner.has_unknown = False
        known = self._positions.known(ids) if self._positions is not None and ids else set()
        places = [place for place in planned.texts if place not in known]
        noted = sorted({*places, *known})
        if not noted:
            return planned.failures
        for place in known:
            planned.failures.pop(place, None)
        try:
            self._together(connection, planned, places, [ids[k] for k in noted] if ids else None)
        except psycopg.Error as error:
            taken = self._positions is not None and self._positions.is_taken(error)
            if connection.closed or taken or not failures.of_one_event(error):
                raise
            if error.sqlstate in _TABLE_CHANGED and self._changed(connection):
                raise
            self._apart(connection, planned, places, known, ids)
        return planned.failures

    def _changed(self, connection: Connection) -> bool:
        """Whether the table is another than it was when it was looked at."""
        return read_shape(connection, self._table) != self._shape

    def _together(
        self,
        connection: Connection,
        planned: Planned,
        places: Sequence[int],
        noted: Sequence[bytes] | None,
    ) -> None:
        """Write all in one transaction, whose statements are sent without waiting in between."""
        positions = self._positions
        with self._in_doubt(noted), connection.transaction(), connection.pipeline():
            if positions is not None and noted is not None:
                positions.begin_batch(connection, noted)
            self._run(connection, planned, places)
        if positions is not None and noted is not None:
            positions.committed(noted)

    def _apart(
        self,
        connection: Connection,
        planned: Planned,
        places: Sequence[int],
        known: set[int],
        ids: Sequence[bytes],
    ) -> None:
        """Write all but those that the server refuses: halve what fails until they are found."""
        positions = self._positions
        refused: dict[int, PenstockError] = {}

        def attempt(share: Sequence[int]) -> None:
            try:
                with connection.transaction():
                    self._run(connection, planned, share)
            except psycopg.Error as error:
                if connection.closed or not failures.of_one_event(error):
                    raise
                if len(share) == 1:
                    refused[share[0]] = failures.event_error(error)
                    return
                middle = len(share) // 2
                attempt(share[:middle])
                attempt(share[middle:])

        noted = [ids[k] for k in sorted({*places, *known})] if ids else None
        with self._in_doubt(noted), connection.transaction():
            if positions is not None and noted is not None:
                positions.begin_batch(connection, noted)
            # A constraint that is checked at the commit would fail all of them there.
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            attempt(places)
            if positions is not None and noted is not None and refused:
                written = {*places, *known} - set(refused)
                noted = [ids[k] for k in sorted(written)]
                positions.correct_batch(connection, noted)
        if positions is not None and noted is not None:
            positions.committed(noted)
        planned.failures.update(refused)

    def _run(self, connection: Connection, planned: Planned, places: Sequence[int]) -> None:
        """Run the statements that write these rows, in order."""
        if not places:
            return
        size = self._settings.batch_size
        texts = planned.texts
        for wave in planned.waves(places):
            for writing, chosen in wave.items():
                text = self._statements.get(writing)
                if text is None:
                    text = self._statements[writing] = statement(
                        writing, self._shape, self._keys, self._settings.keep_newer
                    )
                for start in range(0, len(chosen), size):
                    rows = b",".join([texts[place] for place in chosen[start : start + size]])
                    connection.execute(text.encode(), [f"[{rows.decode()}]"])

    def _in_doubt(self, noted: Sequence[bytes] | None) -> _Doubt:
        return _Doubt(self, noted is not None)

    def settled_state(self) -> Mapping[str, str] | None:
        """Return which batch was written last."""
        return None if self._positions is None else self._positions.state()

    def close(self) -> None:
        """Disconnect. What was delivered is committed."""
        self._drop()


_TABLE_CHANGED = {"42703", "42704", "42P10"}
"""undefined column, undefined object (a type), no such unique constraint"""


class _Doubt:
    """Notes that a transaction's outcome is not known when its connection is lost on the way."""

    def __init__(self, sink: PostgresSink, keeps: bool) -> None:
        self._sink = sink
        self._keeps = keeps

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        positions, connection = self._sink._positions, self._sink._connection  # noqa: SLF001 - its other half
        if error is None or not self._keeps or positions is None:
            return
        if connection is None or connection.closed:
            positions.in_doubt = True
