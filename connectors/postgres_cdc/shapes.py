"""Which columns the tables have in the stream, and when that changes. Pure: no I/O.

The server describes a table before its first change, and before the first that has other columns;
but also whenever a connection begins anew. So what counts is not the description, but that it
differs from the columns known before it. That makes the number which such a change takes in its
transaction the same however often the transaction is sent, as long as what was known at its
beginning is the same, too: a position within a transaction says that, and not what is known since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from connectors.postgres_cdc.pgoutput import Relation

Column = tuple[str, int, int]
"""Name, type oid, type modifier."""

Known = Mapping[str, tuple[Column, ...]]
"""`schema.table` → its columns."""

TypeNames = Mapping[tuple[int, int], str]
"""Type oid and modifier → how SQL writes it; filled before a Relation message is handed over."""


def columns_of(relation: Relation) -> tuple[Column, ...]:
    """Return a table's columns as they are compared."""
    return tuple((one.name, one.type_oid, one.type_modifier) for one in relation.columns)


class Shapes:
    """The columns of the tables as the changes so far have them. One thread."""

    def __init__(
        self, known: Known, names: TypeNames, *, wanted: bool, counted: bool | None = None
    ) -> None:
        """`wanted`: changes become events, else they are counted where a position has counted them.

        `counted`: whether the stored position counts them; None: as it is done from here on.
        """
        self.wanted = wanted
        self._names = names
        # Replaced, never changed: what a transaction began with is kept by its reference.
        self._known: Known = dict(known)
        self._begun: Known = self._known
        self._counted = wanted if counted is None else counted
        self._counting = wanted

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], names: TypeNames, *, wanted: bool, counted: bool | None
    ) -> Shapes:
        """Return what a position says."""
        known = {
            table: tuple((name, oid, modifier) for name, oid, modifier in columns)
            for table, columns in state.items()
        }
        return cls(known, names, wanted=wanted, counted=counted)

    def state(self, *, inside: bool, unread: bool) -> Known | None:
        """Return what a position carries on, None for nothing.

        `inside`: it lies in the open transaction; `unread`: in one that is still to be sent again.
        """
        counted = self._counting if inside else self._counted if unread else self.wanted
        if not counted:
            return None
        return self._begun if inside else self._known

    def begin(self, *, resumed: bool) -> None:
        """Note that a transaction begins; `resumed`: the one that the stored position lies in."""
        self._begun = self._known
        self._counting = self._counted if resumed else self.wanted

    def rewind(self, *, moved: bool) -> None:
        """Forget the open transaction; `moved`: another one than that of the stored position."""
        self._known = self._begun
        if moved:
            self._counted = self.wanted

    def end(self) -> None:
        """Note that the open transaction has ended."""
        self._begun = self._known

    def passed(self, table: str, relation: Relation) -> None:
        """Take in a table as it was before the stored position, which knows better if it knows it."""
        if table not in self._known:
            self._known = {**self._known, table: columns_of(relation)}

    def changed(self, table: str, relation: Relation) -> bytes | None:
        """Take in a table as it is; return the event's data if that is a change that counts."""
        columns = columns_of(relation)
        before = self._known.get(table)
        if before == columns:
            return None
        self._known = {**self._known, table: columns}
        if before is None or set(before) == set(columns) or not self._counting:
            return None
        return self._data(relation, before)

    def _data(self, relation: Relation, before: Sequence[Column]) -> bytes:
        names = self._names
        earlier = {name: rest for name, *rest in before}
        later = {one.name: [one.type_oid, one.type_modifier] for one in relation.columns}
        return orjson.dumps(
            {
                "schema": relation.schema,
                "table": relation.table,
                "columns": [
                    {
                        "name": one.name,
                        "type": names.get((one.type_oid, one.type_modifier), str(one.type_oid)),
                        "identity": one.identity,
                    }
                    for one in relation.columns
                ],
                "added": [name for name in later if name not in earlier],
                "dropped": [name for name in earlier if name not in later],
                "changed": [
                    name for name in later if earlier.get(name, later[name]) != later[name]
                ],
            }
        )
