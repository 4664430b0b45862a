"""Reading the state beside its writers: one connection that can't change anything."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Select, and_, bindparam, or_, select

from connectors.errors import FlowFileError
from flows.state.database import Database
from flows.state.migrations import prepare
from flows.state.records import PartitionState, PipelineTotals
from flows.state.store import SqlStateStore
from flows.state.tables import parked


@dataclass(frozen=True, slots=True)
class ParkedSummary:
    """A parked execution without what it carries."""

    id: str
    pipeline: str
    source: str
    partition: str
    lane: str | None
    turn: int
    attempts: int
    due_at: float
    step: str | None
    parked_at: float
    event_id: str
    event_type: str
    error_code: str
    error_message: str


class StateReader:
    """Answers questions about flows; one thread's at a time.

    A question that takes longer than `timeout` seconds fails on PostgreSQL. Errors are PenstockErrors
    with `state_*` codes, `state_missing` where no flow has run yet.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self._database = Database(url, create=False, read_only_for=timeout)
        try:
            prepare(self._database, create=False)
        except BaseException:
            self._database.close()
            raise
        self._database.opened()
        self.store = SqlStateStore(self._database)
        """The same connection, for what else a store answers."""

    def ping(self) -> None:
        """Ask for nothing; raises when the store does not answer."""
        self._database.run(lambda connection: connection.execute(select(1)).scalar())

    def partitions(self, flow: str) -> list[PartitionState]:
        """Return positions and lags of the source partitions, without a cluster's own marks."""
        return [row for row in self.store.partitions(flow) if "@" not in row.source]

    def totals(self, flow: str) -> dict[str, PipelineTotals]:
        """Return pipeline → what it has done since its flow was first run."""
        return {row.pipeline: row for row in self.store.totals(flow)}

    def parked_page(
        self, flow: str, *, pipeline: str | None, limit: int, after: str | None
    ) -> list[ParkedSummary]:
        """Return parked executions, those that are due first first, from behind a cursor.

        Raises FlowFileError `cursor_unknown`.
        """
        query = _parked_page(pipeline, None if after is None else _read_cursor(after))
        values: dict[str, Any] = {"flow": flow, "most": limit}
        rows = self._database.run(lambda connection: list(connection.execute(query, values)))
        return [ParkedSummary(*row) for row in rows]

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


def parked_cursor(row: ParkedSummary) -> str:
    """Return what `parked_page(after=…)` takes to go on behind this one."""
    return f"{row.due_at!r},{row.turn},{row.pipeline},{row.id}"


def _read_cursor(text: str) -> tuple[float, int, str, str]:
    try:
        due_at, turn, pipeline, execution = text.split(",")
        if len(turn) > 18:  # digits that fit the column
            raise ValueError(turn)
        return float(due_at), int(turn), pipeline, execution
    except ValueError:
        raise FlowFileError(
            f"this is not a cursor of a list of parked executions: {text[:80]!r}.",
            code="cursor_unknown",
            hint="Pass on the cursor that the page before gave, as it is.",
        ) from None


def _parked_page(pipeline: str | None, after: tuple[float, int, str, str] | None) -> Select[Any]:
    order = (parked.c.due_at, parked.c.turn, parked.c.pipeline, parked.c.id)
    query = (
        select(*(parked.c[field.name] for field in fields(ParkedSummary)))
        .where(parked.c.flow == bindparam("flow"))
        .order_by(*order)
        .limit(bindparam("most"))
    )
    if pipeline is not None:
        query = query.where(parked.c.pipeline == pipeline)
    if after is not None:
        behind = [
            and_(*(order[k] == after[k] for k in range(depth)), order[depth] > after[depth])
            for depth in range(len(order))
        ]
        query = query.where(or_(*behind))
    return query
