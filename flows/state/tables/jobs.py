"""What runs once, because somebody asked for it: backfills, and tables read again."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, LargeBinary, Table, Text

from flows.state.tables.columns import Serial, metadata

backfills = Table(
    "penstock_backfills",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("flow", Text, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("status", Text, nullable=False),
    # What somebody wants of it: run, pause or cancel.
    Column("wanted", Text, nullable=False),
    # Milliseconds since the epoch; the second is not in it.
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    # How it is to be done, as JSON.
    Column("request", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    # The last sign of life of its process.
    Column("seen_at", Float),
    # Seconds that its processes have run.
    Column("ran", Float, nullable=False),
    Column("events", BigInteger, nullable=False),
    # None where nobody knows.
    Column("expected", BigInteger),
    # Of dry runs and shadows: source partition → position, stored together with the report.
    Column("positions", Text, nullable=False),
    Column("report", LargeBinary),
    # Why it failed, as JSON.
    Column("error", Text),
    Index("penstock_backfills_flow", "flow", "id"),
)

snapshots = Table(
    "penstock_snapshots",
    metadata,
    # Grows, and is never given twice: a source's position says up to which it has come.
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("flow", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("tables", Text, nullable=False),
    # waiting, running, paused, done, failed, cancelled
    Column("status", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("table", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("penstock_snapshots_status", "flow", "source", "status", "id"),
    sqlite_autoincrement=True,
)
