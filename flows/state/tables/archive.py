"""Events as they came, in chunks."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, Table, Text, text

from flows.state.tables.columns import Serial, metadata

archive_chunks = Table(
    "penstock_archive_chunks",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("flow", Text, nullable=False),
    Column("source", Text, nullable=False),
    # The events' own times; when it was archived, of those that have none.
    Column("first_time", Float, nullable=False),
    Column("last_time", Float, nullable=False),
    Column("span", Integer, nullable=False),
    Column("archived_at", Float, nullable=False),
    Column("count", Integer, nullable=False),
    # JSON list of the source partitions; types of the events, a line each, NULL: too many to tell.
    Column("partitions", Text, nullable=False),
    Column("types", Text),
    # 0: whole; 1: found damaged; 2: given up; 3: nothing was archived in this time, it has no body.
    Column("state", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # Of a chunk that several were put together to: the first of those, `id` being the last.
    Column("first_id", BigInteger),
    # Holds all that a survey adds up, so that none reads bodies.
    Index(
        "penstock_archive_chunks_time",
        *("flow", "source", "span", "last_time", "first_time", "id", "count", "bytes"),
    ),
    # In the order of archiving, and past what no window asks for without a look at the row.
    Index("penstock_archive_chunks_order", "flow", "source", "id", "last_time", "first_time"),
    Index("penstock_archive_chunks_age", "flow", "source", "archived_at", "id", "bytes", "count"),
    Index(
        "penstock_archive_chunks_missing",
        "flow",
        "source",
        "id",
        sqlite_where=text("state > 0"),
        postgresql_where=text("state > 0"),
    ),
)

archive_totals = Table(
    "penstock_archive_totals",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    # A row per shard, and one of "" for what has been forgotten, whose numbers are below zero.
    Column("shard", Text, primary_key=True),
    Column("chunks", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # The time of the first event that was ever archived.
    Column("began_at", Float),
    # Of what has been forgotten: the greatest id, and the latest time of an event.
    Column("forgotten_id", BigInteger, nullable=False),
    Column("forgotten_until", Float),
    # Since when the source runs without an archive; NULL: it has one.
    Column("off_since", Float),
    # Up to which chunk small ones have been put together.
    Column("compacted_id", BigInteger),
)
