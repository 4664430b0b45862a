"""From one version of the tables to the next, by numbered steps.

A new database gets the tables as flows.state.tables describes them; an older one gets the steps
that it lacks. A step is never changed once released, for it has run in somebody's database. All of
it is one transaction under a lock: of two processes that open a database at once, one waits.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Table, insert, inspect, select, update
from sqlalchemy.schema import CreateColumn

from connectors.errors import FatalError
from flows.state import tables
from flows.state.database import Database, missing, patient, transaction

FIRST_VERSION = 1


def _add_parked(connection: Connection) -> None:
    tables.parked.create(connection)


def _add_replays(connection: Connection) -> None:
    _add_columns(connection, tables.dead_letters, "key", "status", "replays", "replay")
    _add_columns(connection, tables.parked, "replay", "letter")
    tables.replays.create(connection)
    tables.replay_entries.create(connection)


def _add_idempotency(connection: Connection) -> None:
    tables.idempotency_keys.create(connection)
    tables.key_outcomes.create(connection)


def _add_columns(connection: Connection, table: Table, *names: str) -> None:
    """Add the columns that the table lacks: one that an earlier step has made has all of today's."""
    present = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for name in names:
        if name not in present:
            column = CreateColumn(table.c[name]).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column}")


def _add_prepared(connection: Connection) -> None:
    tables.prepared.create(connection)


def _add_sagas(connection: Connection) -> None:
    tables.sagas.create(connection)
    _add_columns(connection, tables.dead_letters, "compensation")


def _add_tries(connection: Connection) -> None:
    """Add the tries of executions, and the indexes that filters and statistics read."""
    _add_columns(connection, tables.dead_letters, "tries")
    _add_columns(connection, tables.parked, "tries")
    for index in tables.dead_letters.indexes:
        index.create(connection, checkfirst=True)


def _add_starts(connection: Connection) -> None:
    _add_columns(connection, tables.parked, "started_at")


def _add_kinds(connection: Connection) -> None:
    """Replace an index of dead letters by one that also tells the types of events apart."""
    connection.exec_driver_sql("DROP INDEX IF EXISTS penstock_dead_letters_groups")
    for index in tables.dead_letters.indexes:
        index.create(connection, checkfirst=True)


def _add_key_texts(connection: Connection) -> None:
    _add_columns(connection, tables.idempotency_keys, "key", "tenant")


def _add_details(connection: Connection) -> None:
    _add_columns(connection, tables.dead_letters, "details")


def _add_letter_copies(connection: Connection) -> None:
    tables.letter_copies.create(connection, checkfirst=True)


def _add_schema_registry(connection: Connection) -> None:
    for table in (
        tables.registry_schemas,
        tables.registry_versions,
        tables.registry_references,
        tables.registry_settings,
    ):
        table.create(connection, checkfirst=True)


def _add_history_columns(connection: Connection) -> None:
    """Let readers skip chunks. Those that are there have a span of 99, which says nothing of it."""
    chunks = tables.history_chunks
    _add_columns(connection, chunks, "skipped", "errors", "types", "span")
    connection.exec_driver_sql("DROP INDEX IF EXISTS penstock_history_chunks_time")
    for index in chunks.indexes:
        index.create(connection, checkfirst=True)
    tables.flow_versions.create(connection, checkfirst=True)


def _add_beginnings(connection: Connection) -> None:
    _add_columns(connection, tables.dead_letters, "begins_at")


def _add_former_holders(connection: Connection) -> None:
    _add_columns(connection, tables.leases, "taken_from")


def _add_archive(connection: Connection) -> None:
    tables.archive_chunks.create(connection, checkfirst=True)
    tables.archive_totals.create(connection, checkfirst=True)


def _add_inbox(connection: Connection) -> None:
    for table in (
        tables.inbox_numbers,
        tables.inbox_events,
        tables.inbox_deliveries,
        tables.inbox_answers,
    ):
        table.create(connection, checkfirst=True)


def _add_signals(connection: Connection) -> None:
    _add_columns(connection, tables.parked, "paused_at")
    tables.signals.create(connection, checkfirst=True)


def _add_backfills(connection: Connection) -> None:
    tables.backfills.create(connection, checkfirst=True)


def _add_snapshots(connection: Connection) -> None:
    tables.snapshots.create(connection, checkfirst=True)


def _add_trigger_keys(connection: Connection) -> None:
    tables.trigger_keys.create(connection, checkfirst=True)


def _add_compaction(connection: Connection) -> None:
    _add_columns(connection, tables.archive_chunks, "first_id")
    _add_columns(connection, tables.archive_totals, "compacted_id")


STEPS: tuple[Callable[[Connection], None], ...] = (
    _add_parked,
    _add_replays,
    _add_sagas,
    _add_idempotency,
    _add_prepared,
    _add_tries,
    _add_starts,
    _add_kinds,
    _add_key_texts,
    _add_details,
    _add_letter_copies,
    _add_schema_registry,
    _add_history_columns,
    _add_beginnings,
    _add_former_holders,
    _add_archive,
    _add_inbox,
    _add_signals,
    _add_backfills,
    _add_snapshots,
    _add_trigger_keys,
    _add_compaction,
)
"""STEPS[0] leads from the first version to the second, and so on."""

_LOCK = 0x70656E73746F636B
"""PostgreSQL's advisory lock of our migrations: "penstock" in ASCII."""


def current_version() -> int:
    """Return the version this program reads and writes."""
    return FIRST_VERSION + len(STEPS)


def prepare(database: Database, *, create: bool) -> None:
    """Bring the tables to this program's version; without `create`, only look that they are.

    Raises FatalError `state_newer`, `state_older` or `state_missing`.
    """
    found = database.run(version_of)
    _refuse_newer(found, database.label)
    if found == current_version():
        return
    if create:
        database.run(lambda connection: _migrate(connection, database.label))
    elif found is None:
        raise missing(database.label)
    else:
        raise FatalError(
            f"the state store {database.label} has version {found} of its tables, this program"
            f" needs {current_version()}.",
            code="state_older",
            hint="Run the flow with this program once: that brings the tables up to date.",
        )


def version_of(connection: Connection) -> int | None:
    """Return the version of the tables; None where there are none."""
    if not inspect(connection).has_table(tables.schema_version.name):
        return None
    version: int | None = connection.execute(select(tables.schema_version.c.version)).scalar()
    return version


def _migrate(connection: Connection, label: str) -> None:
    with patient(connection), transaction(connection):
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        found = version_of(connection)
        _refuse_newer(found, label)
        if found is None:
            tables.metadata.create_all(connection, checkfirst=False)
            connection.execute(insert(tables.schema_version).values(version=current_version()))
            return
        for step in STEPS[found - FIRST_VERSION :]:
            step(connection)
        connection.execute(update(tables.schema_version).values(version=current_version()))


def _refuse_newer(found: int | None, label: str) -> None:
    if found is not None and found > current_version():
        raise FatalError(
            f"the state store {label} has version {found} of its tables, this program knows"
            f" {current_version()}.",
            code="state_newer",
            hint="A newer penstock has written it: run that one, or use another state.url.",
        )
