"""The outbox table in a PostgreSQL: what is published once the transaction that wrote it is committed.

Rows are in the order in which they were written. Each has a lane's number: who publishes from a lane
holds its lock, so nobody overtakes within it. A row is deleted when its sink has confirmed, or when what
it refused for good is kept as a dead letter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from zlib import crc32

import psycopg
from psycopg import sql

from connectors.errors import FatalError
from connectors.postgres_cdc.connection import one_line
from transforms.steps.outbox import LANES, OutboxRow

_COLUMNS: Final = {
    "seq",
    "flow",
    "pipeline",
    "sink",
    "turn",
    "lane",
    "event",
    "data",
    "origin",
    "digest",
    "written_at",
}

Connection = psycopg.Connection[Any]

Turns = Collection[tuple[str, int]]
"""Sinks and turns: rows of such a turn for that sink."""


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A row that waits."""

    seq: int
    pipeline: str
    sink: str
    turn: int
    event: str
    data: bytes | None
    origin: bytes


class OutboxTable:
    """The statements on one outbox table, for one flow. Methods raise psycopg.Error.

    Connections are in autocommit; `insert` is part of whatever transaction is open.
    """

    def __init__(self, name: str, flow: str) -> None:
        self.name = name
        self._flow = flow
        self.quoted = sql.Identifier(*name.split(".")).as_string()
        self._random = Random()  # noqa: S311 - which lane comes first is no secret

    # --- the table itself ---------------------------------------------------------------------

    def definition(self) -> str:
        """Return the SQL that makes it."""
        index = f"{self.name.rpartition('.')[2]}_waiting"
        return _DEFINITION.format(table=self.quoted, index=sql.Identifier(index).as_string())

    def columns(self, connection: Connection) -> set[str]:
        """Return the names of its columns; none when it is not there."""
        found = connection.execute(
            "SELECT attname FROM pg_attribute"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            [self.quoted],
        )
        return {row[0] for row in found}

    def ensure(self, connection: Connection) -> None:
        """Make it if it is missing. Raises FatalError where it is something else or can't be made."""
        columns = self.columns(connection)
        if not columns:
            try:
                with connection.transaction():
                    # IF NOT EXISTS alone lets two at a time collide.
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_key(self.quoted)])
                    connection.execute(self.definition().encode(), prepare=False)
            except psycopg.errors.InsufficientPrivilege as error:
                raise FatalError(
                    f"the outbox {self.name} is missing and can't be made: {one_line(error)}.",
                    code="outbox_table",
                    hint=f"Let somebody run: {self.definition()}",
                ) from None
            columns = self.columns(connection)
        if not self.is_one(columns):
            raise FatalError(
                f"the table {self.name} is no outbox: it lacks"
                f" {', '.join(sorted(_COLUMNS - columns))}.",
                code="outbox_table",
                hint="Name another one: outbox: {step: …, table: …}; it is made when it is missing.",
            )

    @staticmethod
    def is_one(columns: set[str]) -> bool:
        """Whether a table with these columns is an outbox."""
        return columns >= _COLUMNS

    # --- writing ------------------------------------------------------------------------------

    def insert(self, connection: Connection, rows: Sequence[OutboxRow]) -> None:
        """Add rows, in their order; none of those that wait already."""
        if not rows:
            return
        psycopg.RawCursor(connection).execute(
            self._sql(_INSERT),
            [
                self._flow,
                [row.pipeline for row in rows],
                [row.sink for row in rows],
                [row.turn for row in rows],
                [row.lane for row in rows],
                [row.event for row in rows],
                [row.data for row in rows],
                [row.origin for row in rows],
                [row.digest for row in rows],
            ],
        )

    # --- publishing ---------------------------------------------------------------------------

    def take_lanes(
        self, connection: Connection, sinks: Sequence[str], held: Turns = ()
    ) -> list[int]:
        """Lock lanes of which something waits: at most half of them, so that others find some too.

        `held`: what is left out, as in `waiting`.
        """
        asked = [LANES - 1, self._flow, list(sinks), *_columns_of(held)]
        found = [row[0] for row in connection.execute(self._sql(_LANES_WAITING), asked)]
        self._random.shuffle(found)
        most = -(-len(found) // 2)
        taken: list[int] = []
        for lane in found:
            row = connection.execute(
                "SELECT pg_try_advisory_lock(%s, %s)", [self._lock(), lane]
            ).fetchone()
            if row is not None and row[0]:
                taken.append(lane)
            if len(taken) == most:
                break
        return taken

    def give_back(self, connection: Connection) -> None:
        """Unlock all lanes."""
        connection.execute("SELECT pg_advisory_unlock_all()")

    def waiting(
        self,
        connection: Connection,
        sinks: Sequence[str],
        lanes: Sequence[int],
        most: int,
        held: Turns = (),
    ) -> list[WaitingRow]:
        """Return the first rows of locked lanes, in order; none of what is `held`."""
        asked = [self._flow, list(lanes), list(sinks), *_columns_of(held), most]
        found = connection.execute(self._sql(_WAITING), asked, binary=True)
        return [WaitingRow(*row) for row in found]

    def delete(self, connection: Connection, seqs: Sequence[int]) -> None:
        """Forget rows: they are published, or kept as dead letters."""
        connection.execute(self._sql(_DELETE), [list(seqs)])

    def depths(self, connection: Connection) -> dict[str, int]:
        """Return pipeline → how many rows of the flow there are."""
        return dict(connection.execute(self._sql(_DEPTHS), [self._flow]).fetchall())

    def is_empty(self, connection: Connection, sinks: Sequence[str]) -> bool:
        """Whether nothing waits for these sinks."""
        row = connection.execute(self._sql(_ANY), [self._flow, list(sinks)]).fetchone()
        return row is not None and not row[0]

    def _sql(self, query: str) -> bytes:
        return query.format(table=self.quoted, not_held=_NOT_HELD).encode()

    def _lock(self) -> int:
        return _key(f"{self.quoted}/{self._flow}")


def _columns_of(held: Turns) -> tuple[list[str], list[int]]:
    return [sink for sink, _ in held], [turn for _, turn in held]


def _key(text: str) -> int:
    """Return the number of an advisory lock."""
    return crc32(f"penstock outbox {text}".encode()) - 2**31


_DEFINITION = (
    "CREATE TABLE IF NOT EXISTS {table} ("
    "seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "flow text NOT NULL, pipeline text NOT NULL, sink text NOT NULL, "
    "turn bigint NOT NULL, lane smallint NOT NULL, event text NOT NULL, data bytea, "
    "origin bytea NOT NULL, digest bytea NOT NULL UNIQUE, "
    "written_at timestamptz NOT NULL DEFAULT now()); "
    "CREATE INDEX IF NOT EXISTS {index} ON {table} (flow, lane, seq)"
)

_INSERT = (
    "INSERT INTO {table} (flow, pipeline, sink, turn, lane, event, data, origin, digest)"
    " SELECT $1, r.pipeline, r.sink, r.turn, r.lane, r.event, r.data, r.origin, r.digest FROM"
    " unnest($2::text[], $3::text[], $4::bigint[], $5::smallint[], $6::text[], $7::bytea[], $8::bytea[],"
    " $9::bytea[]) WITH ORDINALITY AS"
    " r (pipeline, sink, turn, lane, event, data, origin, digest, place) ORDER BY r.place"
    " ON CONFLICT (digest) DO NOTHING"
)

_NOT_HELD = (
    " AND (o.sink, o.turn) NOT IN"
    " (SELECT held.sink, held.turn FROM unnest(%s::text[], %s::bigint[]) AS held (sink, turn))"
)

_LANES_WAITING = (
    "SELECT lanes.lane FROM generate_series(0, %s) AS lanes (lane) WHERE EXISTS (SELECT FROM {table} AS o"
    " WHERE o.flow = %s AND o.lane = lanes.lane AND o.sink = ANY(%s)"
    "{not_held})"
)

_WAITING = (
    "SELECT o.seq, o.pipeline, o.sink, o.turn, o.event, o.data, o.origin FROM {table} AS o WHERE o.flow = %s"
    " AND o.lane = ANY(%s) AND o.sink = ANY(%s)"
    "{not_held} ORDER BY o.seq LIMIT %s"
)

_DELETE = "DELETE FROM {table} WHERE seq = ANY(%s)"

_DEPTHS = "SELECT pipeline, count(*) FROM {table} WHERE flow = %s GROUP BY pipeline"

_ANY = "SELECT EXISTS (SELECT FROM {table} WHERE flow = %s AND sink = ANY(%s))"
