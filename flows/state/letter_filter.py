"""Which dead letters are meant: the filter that list, replay and whatever else acts on many share."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement

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

    @property
    def has_glob(self) -> bool:
        """Whether `event_type` stands for more than one."""
        return self.event_type is not None and _WILD.search(self.event_type) is not None

    def takes_type(self, event_type: str) -> bool:
        """Whether the glob `event_type` takes this type of event."""
        glob = self.event_type
        return glob is None or re.match(_regex(glob), event_type, re.DOTALL) is not None

    def conditions(self, dialect: str, *, by: str | None = None) -> list[ColumnElement[bool]]:
        """Return it as conditions on the table of dead letters.

        `by`: the one column besides flow and time whose index is to be used.
        """
        table = dead_letters.c
        found: list[ColumnElement[bool]] = []
        for name in ("flow", "pipeline", "step", "error_code", "tenant", "status"):
            value = getattr(self, name)
            if value is not None:
                usable = by in {None, name} or name == "flow"
                found.append((table[name] if usable else _expression(table[name])) == value)
        if self.event_type is not None:
            found.append(_matches(self.event_type, dialect, by=by))
        if self.since is not None:
            found.append(table.last_failed_at >= self.since)
        if self.until is not None:
            found.append(table.last_failed_at < self.until)
        if self.ids:
            found.append(table.id.in_(self.ids))
        return found


def _matches(glob: str, dialect: str, *, by: str | None) -> ColumnElement[bool]:
    column: ColumnElement[str] = dead_letters.c.event_type
    if not _WILD.search(glob):
        return (column if by in {None, "event_type"} else _expression(column)) == glob
    # Or SQLite takes the glob for a range of the index by type, which is the worst one.
    column = _expression(column)
    if dialect == "sqlite":
        return column.op("GLOB", is_comparison=True)(glob.replace("[!", "[^"))
    return column.op("~", is_comparison=True)(_regex(glob))


def _expression(column: ColumnElement[str]) -> ColumnElement[str]:
    """Return the column such that no index is used for it."""
    return column.concat("")


def _regex(glob: str) -> str:
    """Return a glob as a regular expression that PostgreSQL and Python read alike."""
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
