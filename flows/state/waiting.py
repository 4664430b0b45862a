"""Parked executions for those who look at them, or for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from flows.state.database import Database
from flows.state.records import Parked
from flows.state.rows import PARKED_FIELDS, PLACE_FIELDS, parked_of
from flows.state.tables import parked
from flows.state.traces import Traces, traces_of

_Parked = select(*(parked.c[name] for name in (*PLACE_FIELDS, *PARKED_FIELDS)))


class Waiting:
    """The parked executions of a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, flow: str) -> dict[str, int]:
        """Return pipeline → how many wait, of those of which any does."""
        query = select(parked.c.pipeline, func.count()).where(parked.c.flow == flow)
        return dict(map(tuple, self._rows(query.group_by(parked.c.pipeline))))

    def find(self, flow: str, pipelines: Sequence[str], prefix: str, limit: int) -> list[Parked]:
        """Return those of these pipelines whose id starts so."""
        query = _Parked.where(
            parked.c.flow == flow,
            parked.c.pipeline.in_(pipelines),
            parked.c.id >= prefix,
            parked.c.id < prefix + "~",
        )
        return list(map(parked_of, self._rows(query.limit(limit))))

    def traces(self, flow: str, prefix: str) -> Traces:
        """Return whether executions whose id starts so wait, are dead letters, or were asked something of."""
        return traces_of(self._database, flow, prefix)

    def page(
        self, flow: str, pipeline: str | None, limit: int, before: tuple[float, str] | None
    ) -> list[Parked]:
        """Return parked executions, those parked last first, from behind (parked_at, id)."""
        query = (
            _Parked.where(parked.c.flow == flow)
            .order_by(parked.c.parked_at.desc(), parked.c.id.desc())
            .limit(limit)
        )
        if pipeline is not None:
            query = query.where(parked.c.pipeline == pipeline)
        if before is not None:
            at, last = before
            query = query.where(
                parked.c.parked_at <= at, (parked.c.parked_at < at) | (parked.c.id < last)
            )
        return list(map(parked_of, self._rows(query)))

    def _rows(self, query: Any) -> Sequence[Any]:
        return self._database.run(lambda connection: connection.execute(query).all())
