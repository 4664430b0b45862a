"""The copies of dead letters that wait for their sink, and those that it has refused for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, and_, bindparam, delete, func, select, update

from flows.state.database import Database, transaction
from flows.state.leases import under
from flows.state.pruning import ROWS, delete_all
from flows.state.queries import replacing, upsert_of
from flows.state.records import Lease, LetterCopy
from flows.state.rows import Row, sink_state_row, storable
from flows.state.tables import letter_copies, sink_states

MOST, LARGEST = 500, 8 << 20
"""Copies, and bytes of them, that are handed out at once (one is, however large)."""


@dataclass(frozen=True, slots=True)
class WaitingCopy:
    """A copy that its sink has not confirmed."""

    number: int
    shard: str
    """Of the worker in which the letter's execution failed."""
    body: bytes
    """Of flows.state.copies."""


@dataclass(frozen=True, slots=True)
class RefusedCopy:
    """A copy that its sink refused for good, and why."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class CopyStatus:
    """What keeps a letter's copy from its sink."""

    status: Literal["waiting", "refused"]
    error_code: str
    """Why it was refused; "" while it waits."""
    error_message: str


@dataclass(frozen=True, slots=True)
class CopyCounts:
    """How many copies of a pipeline's dead letters are not at its sink."""

    waiting: int = 0
    refused: int = 0


class LetterCopies:
    """The copies of a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.save = _save(upsert_of(database.dialect))
        """Stores copies, in the transaction that settles their letters."""
        self._save_state = replacing(upsert_of(database.dialect), sink_states)

    def waiting(self, flow: str, pipelines: Sequence[str]) -> list[WaitingCopy]:
        """Return the first that wait of these pipelines, in the order in which they were stored."""
        table = letter_copies.c
        first = (
            select(table.number, func.length(table.body))
            .where(table.flow == flow, table.pipeline.in_(pipelines), table.refused == 0)
            .order_by(table.number)
            .limit(MOST)
        )
        sizes = self._rows(first)
        if not sizes:
            return []
        numbers: list[int] = []
        total = 0
        for number, size in sizes:
            total += size
            if numbers and total > LARGEST:
                break
            numbers.append(number)
        query = select(table.number, table.shard, table.body).where(table.number.in_(numbers))
        rows = self._rows(query.order_by(table.number))
        return [WaitingCopy(number, shard, bytes(body)) for number, shard, body in rows]

    def settle(
        self,
        lease: Lease,
        confirmed: Sequence[int],
        refused: Mapping[int, RefusedCopy],
        sink: str,
        state: Mapping[str, str] | None,
    ) -> None:
        """Forget what the sink has confirmed, keep why it refused others, and keep its state.

        One transaction, as the lease's holder. Raises FatalError `lease_lost`, RetryableError.
        """
        table = letter_copies.c
        gone = delete(letter_copies).where(table.number.in_(confirmed))
        kept: list[Row] = [
            {"of_number": number, "code": why.code, "message": storable(why.message)}
            for number, why in refused.items()
        ]

        def execute(connection: Connection) -> None:
            if confirmed:
                connection.execute(gone)
            if kept:
                connection.execute(_refuse, kept)
            if state is not None:
                row = sink_state_row(lease.flow, lease.shard, sink, state)
                connection.execute(self._save_state, row)

        under(self._database, lease, execute)

    def try_refused_again(self, flow: str, pipelines: Sequence[str]) -> int:
        """Let those that were refused wait once more; return how many."""
        table = letter_copies.c
        again = (
            update(letter_copies)
            .where(table.flow == flow, table.pipeline.in_(pipelines), table.refused == 1)
            .values(refused=0, error_code="", error_message="")
        )

        def work(connection: Connection) -> int:
            with transaction(connection):
                count: int = connection.execute(again).rowcount
            return count

        return self._database.run(work)

    def counts(self, flow: str) -> dict[str, CopyCounts]:
        """Return pipeline → how many are not at its sink, of pipelines that have any."""
        table = letter_copies.c
        query = (
            select(table.pipeline, func.count(), func.sum(table.refused))
            .where(table.flow == flow)
            .group_by(table.pipeline)
        )
        return {
            pipeline: CopyCounts(int(count) - int(refused), int(refused))
            for pipeline, count, refused in self._rows(query)
        }

    def drop(self, flow: str, pipeline: str, before: float) -> int:
        """Forget a pipeline's copies of letters that failed before a time; return how many.

        In transactions too small for a commit to wait on.
        """
        table = letter_copies.c
        old = and_(table.flow == flow, table.pipeline == pipeline, table.failed_at < before)
        some = select(table.number).where(old).limit(ROWS)
        gone = delete(letter_copies).where(old, table.number.in_(some.scalar_subquery()))
        return delete_all(self._database, gone)

    def of_letter(self, flow: str, letter: str) -> CopyStatus | None:
        """Return why a letter's copy is not at its sink; None where it is, or there is no sink."""
        table = letter_copies.c
        query = select(table.refused, table.error_code, table.error_message).where(
            table.flow == flow, table.letter == letter
        )
        for refused, code, message in self._rows(query):
            return CopyStatus("refused" if refused else "waiting", code, message)
        return None

    def _rows(self, query: Any) -> list[Any]:
        return self._database.run(lambda connection: list(connection.execute(query)))


_refuse = (
    update(letter_copies)
    .where(letter_copies.c.number == bindparam("of_number"))
    .values(refused=1, error_code=bindparam("code"), error_message=bindparam("message"))
)


def copy_row(flow: str, shard: str, copy: LetterCopy) -> Row:
    """Return the row of a copy that waits."""
    return {
        "flow": flow,
        "letter": copy.letter,
        "pipeline": copy.pipeline,
        "shard": shard,
        "failed_at": copy.failed_at,
        "body": copy.body,
        "refused": 0,
        "error_code": "",
        "error_message": "",
    }


def _save(upsert: Any) -> Any:
    """Let a letter that is settled over itself have one copy: the newest."""
    new = upsert(letter_copies)
    names = ("pipeline", "shard", "failed_at", "body", "refused", "error_code", "error_message")
    return new.on_conflict_do_update(
        index_elements=["flow", "letter"], set_={name: new.excluded[name] for name in names}
    )
