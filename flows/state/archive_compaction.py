"""The rows of an archive's chunks that are put together: which are next, and how they are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, select, update

from connectors.failpoints import fail_point
from flows.state.archive_queries import WHOLE, adding, chunk_row_of, minus
from flows.state.database import Database, transaction
from flows.state.queries import upsert_of
from flows.state.records import ArchiveChunk
from flows.state.tables import archive_chunks, archive_totals


@dataclass(frozen=True, slots=True)
class SmallChunk:
    """A chunk as far as it tells whether it is to be put together with others."""

    id: int
    first_time: float
    last_time: float
    archived_at: float
    count: int
    bytes: int
    state: int
    first_id: int | None

    def is_small(self, events: int, size: int) -> bool:
        """Whether it is whole, of one batch, and no larger than this."""
        whole = self.state == WHOLE and self.first_id is None
        return whole and self.count <= events and self.bytes <= size


_at = archive_chunks.c
_SHOWN = tuple(_at[field.name] for field in fields(SmallChunk))

_NEXT: Select[Any] = (
    select(*_SHOWN)
    .where(
        _at.flow == bindparam("flow"),
        _at.source == bindparam("source"),
        _at.id > bindparam("after"),
    )
    .order_by(_at.id)
    .limit(bindparam("most"))
)


class _ChangedError(Exception):
    """Another process has changed one of the chunks in the meantime."""


class ArchiveCompaction:
    """Of one source of a flow. It belongs to the thread of its connection."""

    def __init__(self, database: Database, flow: str, source: str) -> None:
        self._database = database
        self._flow = flow
        self._source = source
        self._add_totals = adding(upsert_of(database.dialect))

    def mark(self) -> int:
        """Return the chunk up to which all are put together that were to be."""
        at = archive_totals.c
        query = select(func.max(at.compacted_id)).where(
            at.flow == self._flow, at.source == self._source
        )
        found: int | None = self._database.run(
            lambda connection: connection.execute(query).scalar()
        )
        return found or 0

    def set_mark(self, chunk: int) -> None:
        """Remember the chunk up to which it has been done; it only grows."""
        row = minus(self._flow, self._source, 0, 0, 0) | {"compacted_id": chunk}

        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(self._add_totals, row)

        self._database.run(work)

    def next_chunks(self, after: int, most: int) -> list[SmallChunk]:
        """Return the chunks behind one, in their order."""
        of = {"flow": self._flow, "source": self._source, "after": after, "most": most}
        rows = self._database.run(lambda connection: connection.execute(_NEXT, of).all())
        return [SmallChunk(*row) for row in rows]

    def replace(self, members: Mapping[int, bytes], whole: ArchiveChunk, size: int) -> bool:
        """Put one chunk in the place of others, in one transaction; return whether it was done.

        `members`: id → digest, in order; `size`: their bytes. It takes the last one's id, so that who has
        read the others but not that one still finds it. Nothing is done if any has changed or is gone.
        """
        *others, last = members
        row = chunk_row_of(self._flow, whole)
        keeping = update(archive_chunks).where(
            _at.id == last, _at.digest == members[last], _at.state == WHOLE
        )
        removing = delete(archive_chunks).where(_at.id.in_(others)).returning(_at.id, _at.digest)
        fewer = minus(self._flow, self._source, len(others), 0, size - len(whole.body))

        def work(connection: Connection) -> None:
            with transaction(connection):
                gone = connection.execute(removing).all()
                if {number: bytes(digest) for number, digest in gone} != {
                    number: members[number] for number in others
                }:
                    raise _ChangedError
                fail_point("mid_archive_compaction")
                if connection.execute(keeping.values(**row)).rowcount != 1:
                    raise _ChangedError
                connection.execute(self._add_totals, fewer)

        try:
            self._database.run(work)
        except _ChangedError:
            return False
        fail_point("after_archive_compaction")
        return True
