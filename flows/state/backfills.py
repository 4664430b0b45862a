"""Backfill jobs in the state store: what is asked for, how far each is, and what it has found."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import orjson
import zstandard
from sqlalchemy import Connection, delete, insert, select, update

from connectors.batch import Position
from flows.state.database import Database, transaction
from flows.state.leases import under
from flows.state.records import Lease
from flows.state.tables import backfills, checkpoints, pipeline_totals

Status = Literal["waiting", "running", "interrupted", "paused", "cancelled", "failed", "done"]
"""`interrupted` is told, not stored: it runs, and nobody has heard of its process for a while."""

Wanted = Literal["run", "pause", "cancel"]

SILENCE = 15.0
"""Seconds without a sign of life after which a job's process is taken to be gone."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """One job. Times are seconds since the epoch, but for its window, which is in milliseconds."""

    id: int
    flow: str
    pipeline: str
    source: str
    mode: Literal["dry_run", "shadow", "live"]
    status: Status
    wanted: Wanted
    since: int
    until: int
    request: str
    """How it is to be done, as JSON."""
    requested_by: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    seen_at: float | None
    ran: float
    """Seconds that its processes have run."""
    events: int
    """Events read so far."""
    expected: int | None
    """Events that there are, as far as known."""
    error: str | None
    """Why it failed, as JSON."""

    @property
    def run(self) -> str:
        """What its executions have in their ids, and its positions in their name."""
        return f"backfill-{self.id}"

    @property
    def owner(self) -> str:
        """The name under which its positions, its lease and what it parks are kept."""
        return owner_of(self.source, self.id)

    def told(self, now: float) -> Status:
        """Return its status as people are told it."""
        if self.status == "running" and (self.seen_at or 0.0) < now - SILENCE:
            return "interrupted"
        return self.status


_MARK = "@backfill-"


def owner_of(source: str, number: int) -> str:
    """Return the name under which a job keeps its positions, never the live source's."""
    return f"{source}{_MARK}{number}"


def is_job(owner: str) -> bool:
    """Whether a shard or a writer is a backfill job's."""
    return _MARK in owner


_SHOWN = tuple(backfills.c[field.name] for field in fields(Backfill))


class Backfills:
    """The jobs of a state store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        *,
        flow: str,
        pipeline: str,
        source: str,
        mode: str,
        since: int,
        until: int,
        request: Mapping[str, Any],
        by: str,
        expected: int | None,
    ) -> int:
        """Keep a new job, which waits for its process; return its number."""
        row = {
            "flow": flow,
            "pipeline": pipeline,
            "source": source,
            "mode": mode,
            "status": "waiting",
            "wanted": "run",
            "since": since,
            "until": until,
            "request": json.dumps(request),
            "requested_by": by,
            "created_at": time.time(),
            "ran": 0.0,
            "events": 0,
            "expected": expected,
            "positions": "{}",
        }

        def work(connection: Connection) -> int:
            with transaction(connection):
                statement = insert(backfills).returning(backfills.c.id)
                number: int = connection.execute(statement, row).scalar_one()
            return number

        return self._database.run(work)

    def get(self, number: int) -> Backfill | None:
        """Return a job; None where there is none of this number."""
        rows = self._rows(select(*_SHOWN).where(backfills.c.id == number))
        return Backfill(*rows[0]) if rows else None

    def newest(self, flow: str, limit: int, before: int | None = None) -> list[Backfill]:
        """Return a flow's jobs, the newest first; those before number `before`."""
        query = select(*_SHOWN).where(backfills.c.flow == flow)
        if before is not None:
            query = query.where(backfills.c.id < before)
        rows = self._rows(query.order_by(backfills.c.id.desc()).limit(limit))
        return [Backfill(*row) for row in rows]

    def wanted(self, number: int) -> Wanted:
        """Return what somebody wants of a job; of one that is gone, that it ends."""
        rows = self._rows(select(backfills.c.wanted).where(backfills.c.id == number))
        found: Wanted = rows[0][0] if rows else "cancel"
        return found

    def ask(self, number: int, wanted: Wanted) -> None:
        """Have a job run, pause or end. One without a process changes at once."""
        at = backfills.c
        alive = (at.status == "running") & (at.seen_at >= time.time() - SILENCE)
        status = {"run": "waiting", "pause": "paused", "cancel": "cancelled"}[wanted]
        ending = {"ended_at": time.time()} if wanted == "cancel" else {}

        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(update(backfills).where(at.id == number).values(wanted=wanted))
                connection.execute(
                    update(backfills)
                    .where(at.id == number, ~alive, at.status.not_in(("done", "cancelled")))
                    .values(status=status, **ending)
                )

        self._database.run(work)

    def begin(self, number: int) -> None:
        """Tell that a job's process runs."""
        now = time.time()
        self._change(number, status="running", seen_at=now, error=None, ended_at=None)
        at = backfills.c
        self._write(
            update(backfills).where(at.id == number, at.started_at.is_(None)).values(started_at=now)
        )

    def alive(self, number: int, seconds: float, events: int) -> None:
        """Tell that a job's process lives: it has run `seconds` longer, and read so many events."""
        self._change(number, seen_at=time.time(), events=events, seconds=seconds)

    def end(
        self, number: int, status: Status, events: int, error: Mapping[str, Any] | None
    ) -> None:
        """Tell how a job's process ended."""
        self._change(
            number,
            status=status,
            events=events,
            ended_at=time.time(),
            error=None if error is None else json.dumps(error),
        )

    def save(
        self, lease: Lease, number: int, positions: Mapping[str, Position], report: Any
    ) -> None:
        """Keep how far a job is and what it has found till there. Raises FatalError `lease_lost`."""
        row = {"positions": json.dumps(positions), "report": _packed(report)}
        statement = update(backfills).where(backfills.c.id == number).values(**row)
        under(self._database, lease, lambda connection: _execute(connection, statement))

    def keep_report(self, number: int, report: Any) -> None:
        """Keep what a live job has come to; its positions are checkpoints as a live source's."""
        self._change(number, report=_packed(report))

    def saved(self, number: int) -> tuple[dict[str, Position], Any]:
        """Return the positions and the report that `save` has kept; ({}, None) before the first."""
        rows = self._rows(
            select(backfills.c.positions, backfills.c.report).where(backfills.c.id == number)
        )
        if not rows:
            return {}, None
        positions, report = rows[0]
        return json.loads(positions), None if report is None else _unpacked(bytes(report))

    def totals(self, job: Backfill) -> tuple[int, int, int]:
        """Return how many executions of a live job are done, failed and skipped."""
        at = pipeline_totals.c
        query = select(at.done, at.failed, at.skipped).where(
            at.flow == job.flow, at.shard == f"{job.owner}/0", at.pipeline == job.pipeline
        )
        rows = self._rows(query)
        return (int(rows[0][0]), int(rows[0][1]), int(rows[0][2])) if rows else (0, 0, 0)

    def finish(self, job: Backfill, events: int, report: Any) -> None:
        """Tell that a live job is through, and forget its checkpoints, which are no source's.

        In one transaction: a job that has no positions and is not through would begin anew.
        """
        at = checkpoints.c
        forgetting = delete(checkpoints).where(at.flow == job.flow, at.source == job.owner)
        done = update(backfills).where(backfills.c.id == job.id)
        row = {"status": "done", "events": events, "ended_at": time.time(), "error": None}

        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(done.values(report=_packed(report), **row))
                connection.execute(forgetting)

        self._database.run(work)

    def _change(self, number: int, *, seconds: float = 0.0, **values: Any) -> None:
        statement = (
            update(backfills)
            .where(backfills.c.id == number)
            .values(ran=backfills.c.ran + seconds, **values)
        )
        self._write(statement)

    def _write(self, statement: Any) -> None:
        def work(connection: Connection) -> None:
            with transaction(connection):
                connection.execute(statement)

        self._database.run(work)

    def _rows(self, query: Any) -> list[Any]:
        return self._database.run(lambda connection: list(connection.execute(query).all()))


def _execute(connection: Connection, statement: Any) -> None:
    connection.execute(statement)


def _packed(report: Any) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(orjson.dumps(report))


def _unpacked(body: bytes) -> Any:
    return orjson.loads(zstandard.ZstdDecompressor().decompress(body))
