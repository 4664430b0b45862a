"""Executions that wait, the signals that reach them, and the sagas that they are part of."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, Table, Text

from flows.state.tables.columns import Ascii, Serial, metadata

parked = Table(
    "penstock_parked",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("pipeline", Text, primary_key=True),
    Column("id", Ascii, primary_key=True),
    Column("source", Text, nullable=False),
    Column("partition", Text, nullable=False),
    Column("lane", Text),
    Column("turn", BigInteger, nullable=False),
    Column("step", Text),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("parked_at", Float, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("replay", BigInteger),
    Column("letter", Ascii),
    Column("tries", Text, nullable=False, server_default="[]"),
    Column("started_at", Float),
    # Since when an operator holds it; NULL: nobody does.
    Column("paused_at", Float),
    # Holds all that a starting worker asks for but the lane, so it reads no bodies.
    Index("penstock_parked_turns", "flow", "source", "turn"),
)

signals = Table(
    "penstock_signals",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("flow", Text, nullable=False),
    Column("execution", Ascii, nullable=False),
    # Of one that is parked; NULL: it is not, and whoever has it finds it by its id.
    Column("pipeline", Text),
    Column("source", Text),
    Column("partition", Text),
    # pause, resume, retry, skip, skip_execution, cancel
    Column("action", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    # waiting, applied, refused
    Column("status", Text, nullable=False),
    # When it is given up if nobody has found the execution; NULL: never.
    Column("expires_at", Float),
    Column("ended_at", Float),
    # Where it took effect, or why it did not.
    Column("note", Text, nullable=False),
    Index("penstock_signals_execution", "flow", "execution", "number"),
    Index("penstock_signals_status", "flow", "status", "number"),
    # Named by those who follow it: never given twice.
    sqlite_autoincrement=True,
)

sagas = Table(
    "penstock_sagas",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("pipeline", Text, primary_key=True),
    Column("id", Ascii, primary_key=True),
    Column("source", Text, nullable=False),
    Column("partition", Text, nullable=False),
    Column("lane", Text),
    Column("event_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("deadline", Float),
    Column("status", Text, nullable=False),
    Column("step", Text),
    Column("attempts", Integer, nullable=False),
    Column("error", Text),
    Column("failed_at", Float),
    Column("updated_at", Float, nullable=False),
    Column("note", Text),
    Column("letter", Ascii),
    Column("steps", Text, nullable=False),
    Column("body", LargeBinary),
    Index("penstock_sagas_status", "flow", "status", "updated_at"),
    Index("penstock_sagas_newest", "updated_at"),
)
