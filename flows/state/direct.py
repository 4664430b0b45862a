"""Statements that go to the driver as they are: for what is executed often, or for many rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.elements import ClauseElement

from flows.state.rows import Row


class Direct:
    """A statement that is compiled once per dialect and executed at the driver's speed.

    SQLAlchemy looks at a statement each time, and at each row's parameters by itself, which costs
    more than what the database does with them (measured on SQLite: 10 of 15 us a row, 90 of 160 us
    a statement). So values must be what drivers take as they are: text, numbers, bytes, None.
    """

    def __init__(self, statement: ClauseElement, columns: Sequence[str] | None = None) -> None:
        """`columns`: those that an INSERT gives values to."""
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, tuple[str, list[str] | None, Row]] = {}

    def execute(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Execute it for each row; return how many rows of the table were written, of all."""
        name = connection.dialect.name
        if name not in self._compiled:
            made = self._statement.compile(dialect=connection.dialect, column_keys=self._columns)
            fixed = dict(made.params)
            self._compiled[name] = str(made), getattr(made, "positiontup", None), fixed
        text, order, fixed = self._compiled[name]
        values: list[Any]
        if order is None:
            values = [{**fixed, **row} for row in rows]
        else:
            values = [tuple([row[k] if k in row else fixed[k] for k in order]) for row in rows]
        return connection.exec_driver_sql(text, values[0] if len(values) == 1 else values).rowcount
