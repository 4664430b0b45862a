"""What a server has taken in for its pipelines."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, Table, Text

from flows.state.tables.columns import metadata

inbox_numbers = Table(
    "penstock_inbox_numbers",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    # Given last; the row's lock is what gives numbers the order of commits.
    Column("last", BigInteger, nullable=False),
)

inbox_events = Table(
    "penstock_inbox_events",
    metadata,
    # What a server has taken in, until it is settled.
    Column("flow", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("lane", Integer, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("raw", LargeBinary),
)

inbox_deliveries = Table(
    "penstock_inbox_deliveries",
    metadata,
    # Which deliveries have come, so that one that comes again is told.
    Column("flow", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("received_at", Float, nullable=False),
    Index("penstock_inbox_deliveries_time", "flow", "received_at"),
)

inbox_answers = Table(
    "penstock_inbox_answers",
    metadata,
    # What came of events whose senders wait for it, per pipeline.
    Column("flow", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("pipeline", Text, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("answer", Text),
    Column("answered_at", Float, nullable=False),
    Index("penstock_inbox_answers_time", "flow", "answered_at"),
)
