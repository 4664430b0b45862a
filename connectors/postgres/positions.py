"""Which events have been written, kept in the same transaction as their rows.

One row of the position table per batch: the batch's number and its events' ids. The state store
keeps the number of the last batch that was settled. After a crash, the events of later batches come
again; their ids tell them, in whatever batches they come now. These ids are *pending*: each has a row
of its own (with a number below zero) until its event has come.

    writer   batch   ids
    8f0c…    41      16 bytes per event       settled; deleted some batches later
    8f0c…    42      16 bytes per event       not settled: pending after a crash
    8f0c…    -3      one id                   pending
    shop/rows  -1    one id                   pending, of a writer that won't come back

A batch's row is inserted before its table rows, under the next number. So a commit whose outcome is not
known is resolved by trying again: if it took place, or still does, the number is taken. And of two
processes that write as one, the older is told so. See `Sink.settled_state` on what is durable when.
"""

# ruff: noqa: S608 - what is put into a statement is a quoted name or a type of the catalog

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import psycopg

from connectors.errors import FatalError
from connectors.postgres.table import TableName, oid_of
from connectors.postgres_cdc.connection import Connection

_NOT_YET_DURABLE = 100
"""States that were returned last may still be on their way to the state store."""
_PRUNE_EVERY = 64
_SIZE = 16

CREATE = (
    "CREATE TABLE IF NOT EXISTS {} (writer text NOT NULL, batch bigint NOT NULL, ids bytea NOT NULL,"
    " written_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (writer, batch))"
)


class Positions:
    """One writer's rows of the position table. All that takes a connection raises psycopg.Error."""

    def __init__(self, name: TableName) -> None:
        self.name = name
        self.keeps = False
        """The runtime stores our state: without it nothing is worth keeping here."""
        self.in_doubt = False
        """The outcome of the last batch's commit is not known."""
        self.number = 0
        """The last batch that was committed."""
        self._writer = ""
        self._family = ""
        self._pending: dict[bytes, tuple[str, int] | None] = {}
        self._returned: deque[int] = deque(maxlen=_NOT_YET_DURABLE)

    def open(self, connection: Connection, state: Mapping[str, str], family: str) -> None:
        """Find what was written and not settled. `family`: flow and sink, that several write as."""
        self._family = family
        if state:
            self._writer, settled = _read_state(state)
            self.keeps = True
        else:
            self._writer, settled = secrets.token_hex(8), 0
        self._ensure_table(connection)
        for tries_left in (2, 1, 0):
            try:
                with connection.transaction():
                    self._begin(connection, settled)
                return
            except psycopg.errors.UniqueViolation:
                # A process that wrote as we do was just committing.
                if not tries_left:
                    raise

    def _begin(self, connection: Connection, settled: int) -> None:
        table = self.name.sql
        own = list(
            connection.execute(f"SELECT batch, ids FROM {table} WHERE writer = %s", [self._writer])
        )
        unsettled = [one for batch, ids in own if batch > settled for one in _split(bytes(ids))]
        kept = {bytes(ids): batch for batch, ids in own if batch < 0}
        self.number = max([settled, *(batch for batch, _ in own)]) + 1
        connection.execute(f"DELETE FROM {table} WHERE writer = %s AND batch > 0", [self._writer])
        self._keep_pending(connection, self._writer, unsettled, min([0, *kept.values()]))
        # The claim: whoever else writes as this writer finds its next number taken.
        connection.execute(
            f"INSERT INTO {table} (writer, batch, ids) VALUES (%s, %s, '')",
            [self._writer, self.number],
        )
        self._pending = {}
        for writer, batch, ids in connection.execute(
            f"SELECT writer, batch, ids FROM {table} WHERE writer IN (%s, %s) AND batch < 0",
            [self._writer, self._family],
        ):
            self._pending[bytes(ids)] = (writer, batch)

    def _keep_pending(
        self, connection: Connection, writer: str, ids: Iterable[bytes], lowest: int
    ) -> None:
        listed = list(dict.fromkeys(ids))
        if listed:
            numbers = [lowest - turn for turn in range(1, len(listed) + 1)]
            connection.execute(
                f"INSERT INTO {self.name.sql} (writer, batch, ids)"
                " SELECT %s, * FROM unnest(%s::bigint[], %s::bytea[])",
                [writer, numbers, listed],
            )

    def _ensure_table(self, connection: Connection) -> None:
        if oid_of(connection, self.name) is None:
            try:
                connection.execute(CREATE.format(self.name.sql).encode())
            except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
                pass  # another worker made it at the same time
            except psycopg.errors.InsufficientPrivilege as error:
                raise FatalError(
                    f"the table {self.name.sql}, which keeps what was written, can't be made: {error}.",
                    code="postgres_position_table",
                    hint=f"Have it made: {CREATE.format(self.name.sql)}; and grant this user"
                    " SELECT, INSERT, UPDATE and DELETE on it. Or set `position_table: null`.",
                ) from error

    def state(self) -> dict[str, str]:
        """Return what is to be settled: everything up to the last batch."""
        self.keeps = True
        self._returned.append(self.number)
        return {"writer": self._writer, "batch": str(self.number), "family": self._family}

    def known(self, ids: Sequence[bytes]) -> set[int]:
        """Return the places of those that are written already."""
        if not self._pending:
            return set()
        return {place for place, one in enumerate(ids) if one in self._pending}

    def begin_batch(self, connection: Connection, ids: Sequence[bytes]) -> None:
        """Note the batch; in its transaction, before its rows."""
        table = self.name.sql
        connection.execute(
            f"INSERT INTO {table} (writer, batch, ids) VALUES (%s, %s, %s)",
            [self._writer, self.number + 1, b"".join(ids)],
        )
        if self._pending:
            rows = [row for one in ids if (row := self._pending.get(one)) is not None]
            for writer in {writer for writer, _ in rows}:
                numbers = [batch for other, batch in rows if other == writer]
                connection.execute(
                    f"DELETE FROM {table} WHERE writer = %s AND batch = ANY(%s)",
                    [writer, numbers],
                )
        if self.number % _PRUNE_EVERY == 0 and len(self._returned) == _NOT_YET_DURABLE:
            connection.execute(
                f"DELETE FROM {table} WHERE writer = %s AND batch > 0 AND batch <= %s",
                [self._writer, self._returned[0]],
            )

    def correct_batch(self, connection: Connection, ids: Sequence[bytes]) -> None:
        """Note which events of the batch have been written after all; in its transaction."""
        connection.execute(
            f"UPDATE {self.name.sql} SET ids = %s WHERE writer = %s AND batch = %s",
            [b"".join(ids), self._writer, self.number + 1],
        )

    def committed(self, ids: Sequence[bytes]) -> None:
        """Take note that the batch is committed."""
        self.number += 1
        self.in_doubt = False
        if self._pending:
            for one in ids:
                self._pending.pop(one, None)

    def is_taken(self, error: psycopg.Error) -> bool:
        """Whether the batch's number was taken: committed by us, or by another process."""
        return (
            isinstance(error, psycopg.errors.UniqueViolation)
            and error.diag.table_name == self.name.table
            and self.name.schema in {None, error.diag.schema_name}
        )

    def resolve(self, connection: Connection) -> None:
        """Take over the batch whose number was taken: its commit did take place.

        Raises FatalError when it was not ours to begin with.
        """
        if not self.in_doubt:
            raise FatalError(
                f"another process writes through this sink as this one does ({self.name.sql}).",
                code="postgres_fenced",
                hint="It has taken over; this one stops. What it has not settled is written once.",
            )
        row = connection.execute(
            f"SELECT ids FROM {self.name.sql} WHERE writer = %s AND batch = %s",
            [self._writer, self.number + 1],
        ).fetchone()
        for one in _split(b"" if row is None else bytes(row[0])):
            self._pending[one] = None
        self.number += 1
        self.in_doubt = False

    def hand_over(self, connection: Connection, state: Mapping[str, str]) -> None:
        """Leave what a lost writer wrote and had not settled to whoever its events come to now."""
        writer, settled = _read_state(state)
        if oid_of(connection, self.name) is None:
            return
        table = self.name.sql
        with connection.transaction():
            # Several may do this for writers of one family at the same time.
            connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
            own = list(
                connection.execute(
                    f"SELECT batch, ids FROM {table} WHERE writer = %s ORDER BY batch",
                    [writer],
                )
            )
            ids = [
                one
                for batch, packed in own
                if batch < 0 or batch > settled
                for one in _split(bytes(packed))
            ]
            row = connection.execute(
                f"SELECT coalesce(min(batch), 0) FROM {table} WHERE writer = %s",
                [state["family"]],
            ).fetchone()
            self._keep_pending(connection, state["family"], ids, 0 if row is None else row[0])
            connection.execute(f"DELETE FROM {table} WHERE writer = %s", [writer])


def digests(ids: Sequence[str], sources: str | Sequence[str | None]) -> list[bytes]:
    """Return 16 bytes per event. What our publish steps publish has an id of just that."""
    if all(len(one) == 2 * _SIZE for one in ids):
        try:
            return [bytes.fromhex(one) for one in ids]
        except ValueError:
            pass
    named = [sources] * len(ids) if isinstance(sources, str) else sources
    return [
        blake2b(f"{source}\0{one}".encode("utf-8", "surrogatepass"), digest_size=_SIZE).digest()
        for source, one in zip(named, ids, strict=True)
    ]


def _split(packed: bytes) -> list[bytes]:
    return [packed[start : start + _SIZE] for start in range(0, len(packed), _SIZE)]


def _read_state(state: Mapping[str, str]) -> tuple[str, int]:
    try:
        return state["writer"], int(state["batch"])
    except (KeyError, ValueError) as error:
        raise FatalError(
            "the PostgreSQL sink's settled state can't be read.",
            code="postgres_state",
            hint="It was not written by this sink; has the module's type been changed?",
        ) from error
