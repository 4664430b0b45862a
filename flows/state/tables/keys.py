"""Idempotency keys: of events, and of starts by hand."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, Table, Text

from flows.state.tables.columns import Ascii, metadata

idempotency_keys = Table(
    "penstock_idempotency_keys",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("holder", Ascii, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("done", Integer, nullable=False),
    Column("result", Text),
    # For people; what counts is the digest.
    Column("key", Text),
    Column("tenant", Text),
    # Until then it is held, or remembered; a key that has expired is as good as none.
    Column("expires_at", Float, nullable=False),
    Index("penstock_idempotency_keys_expiry", "flow", "expires_at"),
)

key_outcomes = Table(
    "penstock_key_outcomes",
    metadata,
    # What a settlement has decided of keys that another store keeps, until that has been told.
    Column("flow", Text, primary_key=True),
    Column("shard", Text, primary_key=True),
    Column("pipeline", Text, primary_key=True),
    Column("outcomes", Text, nullable=False),
)

trigger_keys = Table(
    "penstock_trigger_keys",
    metadata,
    # What was started by hand under a key: the same key again, within its time, starts nothing.
    Column("flow", Text, primary_key=True),
    Column("pipeline", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("replay", BigInteger, nullable=False),
    Column("execution", Ascii, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("penstock_trigger_keys_expiry", "flow", "expires_at"),
)
