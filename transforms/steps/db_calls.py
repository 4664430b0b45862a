"""What a database is asked for, and what it answers: shared by PostgreSQL and SQLite."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from connectors.errors import PenstockError, PermanentError
from transforms.steps.db_statements import Statement
from transforms.steps.payload import json_text

if TYPE_CHECKING:
    from transforms.steps.outbox import Outbox, OutboxRow

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One event's statement: its parameters, as JSON values."""

    index: int
    params: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it: the rows that it returns, and how many it changed."""

    rows: list[Row]
    affected: int


@dataclass(frozen=True, slots=True)
class Asking:
    """How a step asks its database."""

    statement: Statement
    timeout: float
    """Seconds per statement."""
    connections: int
    max_rows: int
    only_first: bool
    """Only the first row is wanted."""
    changes: bool
    """It is there to change something; else the database is told to let nothing change."""
    returning: bool
    numeric_as_number: bool


Outcomes = Mapping[int, Result | PenstockError]
Chains = Sequence[Sequence[Call]]
"""The calls of one chain go one after another."""


@dataclass(frozen=True, slots=True)
class Along:
    """What goes into the database along with the changes, in their transaction."""

    outbox: Outbox
    rows: Callable[[Mapping[int, Result]], tuple[list[OutboxRow], dict[int, PenstockError]]]
    """Results → rows for the outbox, and the errors of calls that are to be undone therefore."""


class Database(Protocol):
    """One step's way to its database. Used by one thread at a time."""

    def run(self, chains: Chains, along: Along | None = None) -> Outcomes:
        """Ask for every call and return what came of each; blocks. Nothing raises for one call.

        `along` is for a database that was made with an outbox.
        """

    def close(self) -> None:
        """Let go of the connections."""


def too_many_rows(most: int) -> PermanentError:
    """Return the error of a statement that returns more rows than it may."""
    return PermanentError(
        f"the statement returns more than {most} rows.",
        code="db_too_many_rows",
        hint="Give it a LIMIT or a WHERE, or raise `max_rows`.",
    )


def check_names(names: Sequence[str]) -> None:
    """Raise PermanentError when two columns of a result have the same name."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PermanentError(
            f"the statement returns two columns named {twice}.",
            code="db_columns",
            hint="Name them apart: SELECT a.id AS a_id, b.id AS b_id.",
        )


def as_json_text(value: Any) -> str:
    """Return a value as JSON text."""
    return json_text(value).decode()


def bytes_text(data: bytes) -> str:
    """Return bytes as JSON has them: base64."""
    return base64.b64encode(data).decode()


def in_chains(calls: Sequence[Call], keys: Sequence[Any]) -> list[list[Call]]:
    """Return the calls, those of one key in one chain; without a key each is its own."""
    chains: dict[object, list[Call]] = {}
    for call in calls:
        key = keys[call.index]
        # An index is an int and a key a str, so they never meet.
        chains.setdefault(call.index if key is None else key, []).append(call)
    return list(chains.values())
