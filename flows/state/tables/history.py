"""What has run, and by which version of its flow."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, Table, Text, text

from flows.state.tables.columns import Serial, metadata

history_chunks = Table(
    "penstock_history_chunks",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("flow", Text, nullable=False),
    Column("flow_version", Text, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("first_time", Float, nullable=False),
    Column("last_time", Float, nullable=False),
    Column("recorded_at", Float, nullable=False),
    Column("count", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("skipped", Integer),
    # Of the failed ones' codes and of the events' types: each on a line of its own. None: not known.
    Column("errors", Text),
    Column("types", Text),
    # The smallest n with last_time - first_time <= 2**n seconds: see flows.state.chunk_store.
    Column("span", Integer, nullable=False, server_default="99"),
    Column("bytes", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # An execution's id says its event's time: this finds the chunks around it, however many there are.
    Index("penstock_history_chunks_span", "flow", "span", "last_time", "first_time", "id"),
    # Holds all that retention asks for, so pruning reads no bodies.
    Index("penstock_history_chunks_age", "flow", "recorded_at", "id", "bytes"),
    Index("penstock_history_chunks_pipeline", "flow", "pipeline", "recorded_at", "id", "failed"),
    Index(
        "penstock_history_chunks_failed",
        "flow",
        "recorded_at",
        "id",
        "pipeline",
        "errors",
        sqlite_where=text("failed > 0"),
        postgresql_where=text("failed > 0"),
    ),
)

flow_versions = Table(
    "penstock_flow_versions",
    metadata,
    # What the pipelines of recorded executions were like: flows.history.plans, compressed.
    Column("flow", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("recorded_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
