"""Which dead letters are meant: the filter that list, replay and whatever else acts on many share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from flows.state.database import Database
from flows.state.records import DeadLetter
from flows.state.rows import LETTER_FIELDS, letter_of, read_cursor
from flows.state.tables import dead_letters

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Dead letters that have all of this; None (or no ids) asks for nothing. Times are in seconds."""

    flow: str | None = None
    pipeline: str | None = None
    step: str | None = None
    error_code: str | None = None
    event_type: str | None = None
    """A glob, such as `public.orders.*`."""
    tenant: str | None = None
    since: float | None = None
    """Its last failure is not before this time."""
    until: float | None = None
    """Its last failure is before this time."""
    ids: tuple[str, ...] = ()
    status: str | None = None
    """`waiting` or `replaying`."""

    def as_dict(self) -> dict[str, Any]:
        """Return what it asks for, JSON-able."""
        asked = {name: value for name, value in asdict(self).items() if value not in (None, ())}
        return asked | ({"ids": list(self.ids)} if self.ids else {})

    @classmethod
    def of_dict(cls, asked: dict[str, Any]) -> LetterFilter:
        """Return the filter that `as_dict` was made of."""
        known = {field.name for field in fields(cls)}
        found = {name: value for name, value in asked.items() if name in known}
        return cls(**found | {"ids": tuple(asked.get("ids", ()))})


class Letters:
    """Reads the dead letters of a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, wanted: LetterFilter, limit: int, after: str | None = None) -> list[DeadLetter]:
        """Return dead letters, newest failure first, from behind the cursor `after` (rows.cursor)."""
        table = dead_letters.c
        query = self._where(select(*(table[name] for name in LETTER_FIELDS)), wanted)
        query = query.order_by(table.last_failed_at.desc(), table.id.desc()).limit(limit)
        if after is not None:
            at, letter = read_cursor(after)
            query = query.where(
                table.last_failed_at <= at, or_(table.last_failed_at < at, table.id < letter)
            )
        return list(map(letter_of, self._rows(query)))

    def count(self, wanted: LetterFilter) -> int:
        """Return how many there are."""
        return int(self._rows(self._where(select(func.count()), wanted))[0][0])

    def _where(self, query: Select[Any], wanted: LetterFilter) -> Select[Any]:
        table = dead_letters.c
        query = query.select_from(dead_letters)
        for name in ("flow", "pipeline", "step", "error_code", "tenant", "status"):
            value = getattr(wanted, name)
            if value is not None:
                query = query.where(table[name] == value)
        if wanted.event_type is not None:
            query = query.where(self._matches(wanted.event_type))
        if wanted.since is not None:
            query = query.where(table.last_failed_at >= wanted.since)
        if wanted.until is not None:
            query = query.where(table.last_failed_at < wanted.until)
        if wanted.ids:
            query = query.where(table.id.in_(wanted.ids))
        return query

    def _matches(self, glob: str) -> ColumnElement[bool]:
        column = dead_letters.c.event_type
        if not _WILD.search(glob):
            return column == glob
        if self._database.dialect == "sqlite":
            return column.op("GLOB", is_comparison=True)(glob.replace("[!", "[^"))
        return column.op("~", is_comparison=True)(_regex(glob))

    def _rows(self, query: Any) -> Sequence[Any]:
        return self._database.run(lambda connection: connection.execute(query).all())


def _regex(glob: str) -> str:
    """Return a glob as PostgreSQL's regular expression."""
    found, rest = "", glob
    while rest:
        character, rest = rest[0], rest[1:]
        inside, closing, behind = rest.partition("]")
        if character == "[" and closing and inside not in ("", "^", "!"):
            negated = inside[0] in "^!"
            members = (inside[1:] if negated else inside).replace("\\", "\\\\").replace("[", "\\[")
            found, rest = f"{found}[{'^' if negated else ''}{members}]", behind
        else:
            found += {"*": ".*", "?": "."}.get(character, re.escape(character))
    return f"^(?:{found})$"
