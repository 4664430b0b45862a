"""Which rows a batch of events writes, and in which order. Pure: nothing here asks the server.

Events that write the same columns share a statement. Where a batch has several kinds, as an UPDATE
that leaves a column out, or a DELETE, they are sorted into *waves*: an event is in a later wave than any
of its key before it that is of another kind. So events of one key take effect in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.contracts import Outgoing
from connectors.errors import PenstockError, PermanentError
from connectors.postgres.settings import PostgresSink
from connectors.postgres.statements import Writing
from connectors.postgres.table import TableShape


@dataclass(slots=True)
class Planned:
    """What becomes of a batch: rows as JSON by place, how each is written, and what can't be."""

    texts: dict[int, bytes] = field(default_factory=dict)
    writings: dict[int, Writing] = field(default_factory=dict)
    identities: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """The values of the keys, as text, by place; nothing in mode insert."""
    failures: dict[int, PenstockError] = field(default_factory=dict)

    def waves(self, places: Sequence[int]) -> list[dict[Writing, list[int]]]:
        """Return the events' places by statement, to be run in this order."""
        first = self.writings[places[0]]
        if all(self.writings[place] is first for place in places):
            return [{first: list(places)}]
        found: list[dict[Writing, list[int]]] = []
        last: dict[tuple[str, ...], tuple[int, Writing]] = {}
        for place in places:
            writing = self.writings[place]
            wave = 0
            identity = self.identities.get(place)
            if identity is not None:
                before = last.get(identity)
                if before is not None:
                    wave = before[0] if before[1] is writing else before[0] + 1
                last[identity] = (wave, writing)
            while len(found) <= wave:
                found.append({})
            found[wave].setdefault(writing, []).append(place)
        return found


class RowPlanner:
    """Decides for a table, under the settings; made anew when the table has changed."""

    def __init__(self, settings: PostgresSink, shape: TableShape, keys: tuple[str, ...]) -> None:
        self._settings = settings
        self._shape = shape
        self._keys = keys
        self._known: dict[tuple[bool, tuple[str, ...]], Writing | PermanentError] = {}
        self._writings: dict[Writing, Writing] = {}
        self.has_unknown = False
        """An event had a field that the table has no column for: it may have got one since."""

    def plan(self, events: Outgoing, mapped: Mapping[int, Any] | None) -> Planned:
        """Plan all events; `mapped` has the objects made by `columns`, by place, where it is set."""
        planned = Planned()
        operations = None
        if self._settings.mode != "insert":
            operations = events.attributes().get("operation")
        loads, known, failures = orjson.loads, self._known, planned.failures
        for place, value in enumerate(events.values):
            operation = operations[place] if isinstance(operations, list) else operations
            if mapped is None:
                row = None if value is None else loads(value)
                text = value
            elif place in mapped:
                row = mapped[place]
                text = _as_text(row)
            else:
                continue
            if type(row) is not dict or text is None:
                failures[place] = _no_object(row)
                continue
            deletes = operation == "DELETE"
            if (deletes and self._settings.mode == "upsert") or operation in _OF_NO_ROW:
                failures[place] = _refused(str(operation), self._settings.mode)
                continue
            names = (deletes, tuple(row))
            writing = known.get(names)
            if writing is None:
                writing = known[names] = self._writing(deletes, names[1])
                if len(known) > 10_000:
                    known.clear()  # data whose fields are values
            if isinstance(writing, PermanentError):
                failures[place] = writing
                continue
            planned.texts[place] = text
            planned.writings[place] = writing
            if self._keys:
                planned.identities[place] = tuple([str(row[name]) for name in self._keys])
        return planned

    def _writing(self, deletes: bool, names: tuple[str, ...]) -> Writing | PermanentError:
        columns = self._shape.columns
        unknown = [name for name in names if name not in columns]
        if unknown:
            self.has_unknown = True
            if self._settings.unknown_fields == "fail":
                return PermanentError(
                    f"the table {self._shape.name.sql} has no column {unknown[0]}.",
                    code="postgres_unknown_field",
                    hint="Add it, leave the field out of the data, name the `columns`, or set"
                    " `unknown_fields: ignore`.",
                    field=unknown[0],
                )
        missing = [name for name in self._keys if name not in names]
        if missing:
            return PermanentError(
                f"the event's data has no {missing[0]}, which is a key of {self._shape.name.sql}.",
                code="postgres_key_missing",
                hint="Correct `keys`, or the data before it is published.",
                field=missing[0],
            )
        given = set(names)
        if deletes:
            given &= {*self._keys, self._settings.keep_newer}
        newer = self._settings.keep_newer
        if newer is not None and newer not in names and not deletes:
            return PermanentError(
                f"the event's data has no {newer}, which `keep_newer` goes by.",
                code="postgres_key_missing",
                hint="Add it to the data before it is published.",
                field=newer,
            )
        chosen = tuple(
            one.name for one in columns.values() if one.name in given and not one.generated
        )
        if not chosen:
            return PermanentError(
                f"the event's data has no field that {self._shape.name.sql} has a column for.",
                code="postgres_unknown_field",
                hint="Check what is published to it.",
            )
        mode = self._settings.mode
        if deletes:
            writing = Writing("delete", chosen)
        elif mode == "insert":
            ignores = self._settings.on_conflict == "ignore"
            writing = Writing("insert_ignore" if ignores else "insert", chosen)
        else:
            writing = Writing("upsert", chosen)
        return self._writings.setdefault(writing, writing)


def _as_text(row: Any) -> bytes | None:
    try:
        return orjson.dumps(row)
    except TypeError:  # an integer of more than 64 bits
        import json  # noqa: PLC0415 - for numbers that few events have

        return json.dumps(row).encode()


_OF_NO_ROW = frozenset({"TRUNCATE", "ALTER", "BEGIN", "END"})
"""Operations that are about a table or a transaction, and not about a row."""


def _no_object(row: Any) -> PermanentError:
    found = "no data" if row is None else f"a {type(row).__name__} as data"
    return PermanentError(
        f"the event has {found}, and a row is made of an object.",
        code="postgres_no_object",
        hint="Publish an object whose fields are the columns, or name the `columns`.",
    )


def _refused(operation: str, mode: str) -> PermanentError:
    return PermanentError(
        f"mode {mode} does nothing with a {operation}.",
        code="postgres_operation",
        hint="Set `mode: merge` to delete rows with DELETE changes, or keep such events out with the"
        " trigger's `when`.",
        operation=operation,
    )
