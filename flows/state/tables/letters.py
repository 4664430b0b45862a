"""Dead letters, their copies, and the replays that run them again."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, Table, Text

from flows.state.tables.columns import Ascii, Serial, metadata

dead_letters = Table(
    "penstock_dead_letters",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("id", Ascii, primary_key=True),
    Column("flow_version", Text, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("step", Text),
    Column("source", Text, nullable=False),
    Column("partition", Text, nullable=False),
    Column("position", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error_kind", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("error_hint", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_failed_at", Float, nullable=False),
    Column("last_failed_at", Float, nullable=False),
    Column("event", Text, nullable=False),
    Column("change", Text),
    Column("wire", LargeBinary),
    Column("outputs", Text, nullable=False),
    Column("key", Text),
    # waiting, or replaying: then `replay` names the one that has it.
    Column("status", Text, nullable=False, server_default="waiting"),
    Column("replays", Integer, nullable=False, server_default="0"),
    Column("replay", BigInteger),
    Column("compensation", Text),
    Column("tries", Text, nullable=False, server_default="[]"),
    Column("details", Text),
    Column("begins_at", Text),
    Index("penstock_dead_letters_newest", "last_failed_at"),
    Index("penstock_dead_letters_flow", "flow", "last_failed_at"),
    Index("penstock_dead_letters_pipeline", "flow", "pipeline", "last_failed_at"),
    Index("penstock_dead_letters_error", "flow", "error_code", "last_failed_at"),
    Index("penstock_dead_letters_step", "flow", "step", "last_failed_at"),
    Index("penstock_dead_letters_type", "flow", "event_type", "last_failed_at"),
    Index("penstock_dead_letters_tenant", "flow", "tenant", "last_failed_at"),
    # Holds all that filters and statistics ask for, so neither reads the entries.
    Index(
        "penstock_dead_letters_kinds",
        "flow",
        "pipeline",
        "step",
        "error_code",
        "event_type",
        "last_failed_at",
        "tenant",
        "status",
        "id",
    ),
)

letter_copies = Table(
    "penstock_letter_copies",
    metadata,
    # The order in which they go to their sink.
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("flow", Text, nullable=False),
    Column("letter", Ascii, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("shard", Text, nullable=False),
    Column("failed_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Index("penstock_letter_copies_letter", "flow", "letter", unique=True),
    Index("penstock_letter_copies_waiting", "flow", "pipeline", "refused", "number"),
    sqlite_autoincrement=True,
)

replays = Table(
    "penstock_replays",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("flow", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("selection", Text, nullable=False),
    Column("edit", Text),
    Column("rate", Float),
    Column("from_step", Integer, nullable=False),
    # selecting, running, done, cancelling, cancelled
    Column("status", Text, nullable=False),
    Column("cursor", Text),
    Column("paced_until", Float, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("returned", BigInteger, nullable=False),
    Column("finished_at", Float),
    Index("penstock_replays_status", "flow", "status"),
    # Its number is part of its executions' ids: never given twice.
    sqlite_autoincrement=True,
)

replay_entries = Table(
    "penstock_replay_entries",
    metadata,
    Column("replay", BigInteger, primary_key=True, autoincrement=False),
    Column("letter", Ascii, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("partition", Ascii, nullable=False),
    Column("position", Ascii, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("edited", Text),
    Column("original", Text),
    Column("status", Text, nullable=False),
    # The worker that has taken it out of the inbox and not parked it yet.
    Column("taken_by", Text),
    Column("execution", Ascii),
    Column("step", Text),
    Column("error_code", Text, nullable=False, server_default=""),
    Column("error_message", Text, nullable=False, server_default=""),
    Column("ended_at", Float),
    # The inbox of a source's workers: what waits, by partition, in the order of the events.
    Index(
        "penstock_replay_entries_inbox",
        "replay",
        "source",
        "status",
        "partition",
        "position",
        "letter",
    ),
)
