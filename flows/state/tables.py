"""The state store's tables: one description for SQLite and PostgreSQL.

Times are seconds since the epoch; JSON is text, since nothing here is queried by its inside and
text keeps every digit. Names start with `penstock_`, so that a database may be shared.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData()

_Serial = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column that is declared INTEGER."""

_Ascii = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared byte by byte, whatever the database's collation: ranges of ids rely on it."""

schema_version = Table(
    "penstock_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

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

dead_letters = Table(
    "penstock_dead_letters",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("id", _Ascii, primary_key=True),
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
    Column("number", _Serial, primary_key=True, autoincrement=True),
    Column("flow", Text, nullable=False),
    Column("letter", _Ascii, nullable=False),
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

parked = Table(
    "penstock_parked",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("pipeline", Text, primary_key=True),
    Column("id", _Ascii, primary_key=True),
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
    Column("letter", _Ascii),
    Column("tries", Text, nullable=False, server_default="[]"),
    Column("started_at", Float),
    # Since when an operator holds it; NULL: nobody does.
    Column("paused_at", Float),
    # Holds all that a starting worker asks for but the lane, so it reads no bodies.
    Index("penstock_parked_turns", "flow", "source", "turn"),
)

replays = Table(
    "penstock_replays",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
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
    Column("letter", _Ascii, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("partition", _Ascii, nullable=False),
    Column("position", _Ascii, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("edited", Text),
    Column("original", Text),
    Column("status", Text, nullable=False),
    # The worker that has taken it out of the inbox and not parked it yet.
    Column("taken_by", Text),
    Column("execution", _Ascii),
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

signals = Table(
    "penstock_signals",
    metadata,
    Column("number", _Serial, primary_key=True, autoincrement=True),
    Column("flow", Text, nullable=False),
    Column("execution", _Ascii, nullable=False),
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
    Column("id", _Ascii, primary_key=True),
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
    Column("letter", _Ascii),
    Column("steps", Text, nullable=False),
    Column("body", LargeBinary),
    Index("penstock_sagas_status", "flow", "status", "updated_at"),
    Index("penstock_sagas_newest", "updated_at"),
)

history_chunks = Table(
    "penstock_history_chunks",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
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

archive_chunks = Table(
    "penstock_archive_chunks",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
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


idempotency_keys = Table(
    "penstock_idempotency_keys",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("holder", _Ascii, nullable=False),
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

key_outcomes = Table(
    "penstock_key_outcomes",
    metadata,
    # What a settlement has decided of keys that another store keeps, until that has been told.
    Column("flow", Text, primary_key=True),
    Column("shard", Text, primary_key=True),
    Column("pipeline", Text, primary_key=True),
    Column("outcomes", Text, nullable=False),
)

registry_schemas = Table(
    "penstock_registry_schemas",
    metadata,
    # Given once and never again, also when nothing holds the schema any more: messages carry it.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("digest", _Ascii, nullable=False),
    # "" once no version holds it.
    Column("text", Text, nullable=False),
    Column("references", Text, nullable=False),
    Index("penstock_registry_schemas_digest", "digest", unique=True),
)

registry_versions = Table(
    "penstock_registry_versions",
    metadata,
    Column("subject", _Ascii, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("schema", Integer, nullable=False),
    # What flow files call it, such as 1.0.
    Column("label", Text),
    Column("deleted", Integer, nullable=False),
    Column("registered_at", Float, nullable=False),
    Index("penstock_registry_versions_schema", "schema"),
)

registry_references = Table(
    "penstock_registry_references",
    metadata,
    Column("schema", Integer, primary_key=True, autoincrement=False),
    Column("subject", _Ascii, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Index("penstock_registry_references_to", "subject", "version"),
)

registry_settings = Table(
    "penstock_registry_settings",
    metadata,
    # "" for what holds where a subject says nothing.
    Column("subject", _Ascii, primary_key=True),
    Column("compatibility", Text),
    Column("mode", Text),
)

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

backfills = Table(
    "penstock_backfills",
    metadata,
    Column("id", _Serial, primary_key=True),
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
    Column("id", _Serial, primary_key=True, autoincrement=True),
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


class server_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock in seconds since the epoch: one clock for all workers' leases."""

    inherit_cache = True
    type = Float()


@compiles(server_now, "sqlite")
def _sqlite_now(_element: server_now, _compiler: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(server_now, "postgresql")
def _postgresql_now(_element: server_now, _compiler: Any, **_options: Any) -> str:
    return "extract(epoch from clock_timestamp())::float8"


class whole(FunctionElement[int]):  # noqa: N801 - reads as the SQL function it is
    """The whole part of a number that is not negative."""

    inherit_cache = True
    type = Integer()


@compiles(whole, "sqlite")
def _sqlite_whole(element: whole, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"


@compiles(whole, "postgresql")
def _postgresql_whole(element: whole, compiler: Any, **options: Any) -> str:
    return f"CAST(floor({compiler.process(element.clauses, **options)}) AS INTEGER)"
