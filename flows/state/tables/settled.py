"""What a worker settles, and under which lease: positions, sinks' states, totals."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, LargeBinary, Table, Text

from flows.state.tables.columns import metadata

checkpoints = Table(
    "penstock_checkpoints",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("partition", Text, primary_key=True),
    Column("position", Text, nullable=False),
    Column("lag_events", BigInteger),
    Column("lag_bytes", BigInteger),
    Column("lag_seconds", Float),
    Column("updated_at", Float, nullable=False),
)

sink_states = Table(
    "penstock_sink_states",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("writer", Text, primary_key=True),
    Column("sink", Text, primary_key=True),
    Column("state", Text, nullable=False),
)

pipeline_totals = Table(
    "penstock_pipeline_totals",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("pipeline", Text, primary_key=True),
    # A row per shard: workers that share a pipeline don't wait for each other's commits.
    Column("shard", Text, primary_key=True),
    Column("done", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
)

leases = Table(
    "penstock_leases",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("shard", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("expires_at", Float, nullable=False),
    # The name of the last commit made under the lease: how a commit whose answer was lost
    # finds out whether it happened.
    Column("last_commit", Text, nullable=False),
    # Another holder, whose time ran out: kept over restarts until its files are known to be free.
    Column("taken_from", Text, nullable=False, server_default=""),
)

prepared = Table(
    "penstock_prepared",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("shard", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("layout", Text, nullable=False),
    # The transaction's name; "" while none is about to be committed.
    Column("name", Text, nullable=False),
    Column("positions", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
