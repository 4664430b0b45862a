"""The state store's tables: one description for SQLite and PostgreSQL.

Times are seconds since the epoch; JSON is text, since nothing here is queried by its inside and
text keeps every digit. Names start with `penstock_`, so that a database may be shared. Each module has
an area's tables; a new one is named here, too, and made by a step of flows.state.migrations.
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table

from flows.state.tables.archive import archive_chunks, archive_totals
from flows.state.tables.columns import metadata
from flows.state.tables.functions import server_now, whole
from flows.state.tables.history import flow_versions, history_chunks
from flows.state.tables.inbox import inbox_answers, inbox_deliveries, inbox_events, inbox_numbers
from flows.state.tables.jobs import backfills, snapshots
from flows.state.tables.keys import idempotency_keys, key_outcomes, trigger_keys
from flows.state.tables.letters import dead_letters, letter_copies, replay_entries, replays
from flows.state.tables.schemas import (
    registry_references,
    registry_schemas,
    registry_settings,
    registry_versions,
)
from flows.state.tables.settled import checkpoints, leases, pipeline_totals, prepared, sink_states
from flows.state.tables.waiting import parked, sagas, signals

__all__ = [
    "archive_chunks",
    "archive_totals",
    "backfills",
    "checkpoints",
    "dead_letters",
    "flow_versions",
    "history_chunks",
    "idempotency_keys",
    "inbox_answers",
    "inbox_deliveries",
    "inbox_events",
    "inbox_numbers",
    "key_outcomes",
    "leases",
    "letter_copies",
    "metadata",
    "parked",
    "pipeline_totals",
    "prepared",
    "registry_references",
    "registry_schemas",
    "registry_settings",
    "registry_versions",
    "replay_entries",
    "replays",
    "sagas",
    "schema_version",
    "server_now",
    "signals",
    "sink_states",
    "snapshots",
    "trigger_keys",
    "whole",
]

schema_version = Table(
    "penstock_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)
