"""What a source needs of the server before it starts, each with what to do where it doesn't hold.

`open` refuses on the first that fails, `preflight` lists them all: one set of rules for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from connectors.errors import FatalError
from connectors.postgres_cdc import catalog, slot
from connectors.postgres_cdc.catalog import Publication, ServerFacts, TableFacts
from connectors.postgres_cdc.condition import Condition
from connectors.postgres_cdc.connection import Connection
from connectors.postgres_cdc.settings import PostgresCdcSettings, TableSettings


def server_problems(settings: PostgresCdcSettings, facts: ServerFacts) -> Iterator[FatalError]:
    """Yield what is wrong with the server or the user."""
    if facts.version < slot.OLDEST:
        yield FatalError(
            f"the server is PostgreSQL {facts.release}; 14 or newer is needed.",
            code="postgres_too_old",
            hint="Upgrade it: older releases are out of support.",
        )
    if settings.snapshot == "only":
        return
    if facts.in_recovery and facts.version < slot.STANDBY:
        yield FatalError(
            f"the server is a standby of PostgreSQL {facts.release}; decoding on one needs 16.",
            code="standby_too_old",
            hint="Let `connection` lead to the primary.",
        )
    if settings.failover and facts.version < slot.FAILOVER:
        yield FatalError(
            f"`failover` needs PostgreSQL 17; this is {facts.release}.",
            code="failover_unsupported",
            hint="Take it out: older servers lose their slots in a failover (see on_slot_missing).",
        )
    if settings.failover and facts.in_recovery:
        yield FatalError(
            "`failover` is for a slot of the primary, and the server is a standby.",
            code="failover_unsupported",
            hint="Let `connection` lead to the primary, or take it out.",
        )
    if facts.wal_level != "logical":
        yield FatalError(
            f"the server's wal_level is {facts.wal_level}; logical is needed.",
            code="wal_level",
            hint="ALTER SYSTEM SET wal_level = logical; then restart the server (managed services: "
            "a parameter such as rds.logical_replication).",
        )
    if not facts.may_replicate:
        yield FatalError(
            f"user {facts.user} has no REPLICATION right.",
            code="postgres_no_replication_right",
            hint=f'ALTER ROLE "{facts.user}" REPLICATION; (managed services: grant their '
            "replication role, such as rds_replication).",
        )
    filtered = [table.name for table in settings.tables if table.where]
    if filtered and facts.version < slot.COLUMN_LISTS:
        yield FatalError(
            f"`where` of {', '.join(filtered)} needs PostgreSQL 15; this is {facts.release}.",
            code="where_unsupported",
            hint="Filter with filter.condition, which is evaluated here.",
        )


def table_problems(
    settings: PostgresCdcSettings, wanted: TableSettings, found: TableFacts | None
) -> Iterator[FatalError]:
    """Yield what is wrong with one table."""
    if found is None:
        yield FatalError(
            f"the table {wanted.name} does not exist.",
            code="table_missing",
            hint="Names are as the server stores them: lower case, unless they were quoted.",
            table=wanted.name,
        )
        return
    quoted = sql.Identifier(found.schema, found.table).as_string(None)
    if found.kind not in ("r", "p"):
        yield FatalError(
            f"{wanted.name} is not a table: views and foreign tables have no changes to read.",
            code="not_a_table",
            hint="Name the tables that it is made of.",
            table=wanted.name,
        )
        return
    if not found.logged and settings.snapshot != "only":
        yield FatalError(
            f"{wanted.name} is unlogged or temporary: its changes are not in the WAL.",
            code="table_unlogged",
            hint=f"ALTER TABLE {quoted} SET LOGGED;",
            table=wanted.name,
        )
    if not found.selectable and settings.snapshot != "never":
        yield FatalError(
            f"the user may not SELECT from {wanted.name}, which the snapshot does.",
            code="postgres_permission",
            hint=f"GRANT USAGE ON SCHEMA {sql.Identifier(found.schema).as_string(None)} TO …; "
            f"GRANT SELECT ON {quoted} TO …; or snapshot: never.",
            table=wanted.name,
        )
    names = [name for name, _ in found.columns]
    missing = sorted(set(wanted.columns or ()) - set(names))
    if missing:
        yield FatalError(
            f"{wanted.name} has no column {', '.join(missing)}.",
            code="column_missing",
            hint=f"It has {', '.join(names)} (generated columns can't be read).",
            table=wanted.name,
        )
    if settings.snapshot != "only":
        yield from _identity_problems(settings, wanted, found, quoted)


def _identity_problems(
    settings: PostgresCdcSettings, wanted: TableSettings, found: TableFacts, quoted: str
) -> Iterator[FatalError]:
    changing = {"UPDATE", "DELETE"}.intersection(settings.filter.operations)
    if changing and not found.identity_columns:
        yield FatalError(
            f"{wanted.name} has no replica identity: once it is published, the server refuses "
            "every UPDATE and DELETE on it.",
            code="replica_identity_missing",
            hint=f"Give it a primary key, or ALTER TABLE {quoted} REPLICA IDENTITY FULL; or read "
            "only its inserts with filter.operations: [INSERT].",
            table=wanted.name,
        )
    outside = sorted(found.identity_columns - set(wanted.columns or found.identity_columns))
    if changing and outside:
        yield FatalError(
            f"`columns` of {wanted.name} leaves out {', '.join(outside)} of its replica identity; "
            "the server then refuses every UPDATE and DELETE.",
            code="columns_without_identity",
            hint="Add them to `columns`.",
            table=wanted.name,
        )
    if settings.filter.condition is not None and changing and found.identity != "f":
        condition = Condition(settings.filter.condition)
        unknown = sorted(condition.old_columns - found.identity_columns)
        if unknown:
            yield FatalError(
                f"filter.condition reads OLD.{', OLD.'.join(unknown)}, which the WAL does not have "
                f"for {wanted.name}.",
                code="old_row_unavailable",
                hint=f"ALTER TABLE {quoted} REPLICA IDENTITY FULL;",
                table=wanted.name,
            )


def condition_problems(
    settings: PostgresCdcSettings, wanted: TableSettings, found: TableFacts
) -> Iterator[FatalError]:
    """Yield a condition's columns that the table doesn't have."""
    if settings.filter.condition is None:
        return
    condition = Condition(settings.filter.condition)
    names = set(wanted.columns or [name for name, _ in found.columns])
    missing = sorted((condition.old_columns | condition.new_columns) - names)
    if missing:
        yield FatalError(
            f"filter.condition reads {', '.join(missing)}, which {wanted.name} doesn't have"
            f"{' among its `columns`' if wanted.columns else ''}.",
            code="condition_column_missing",
            hint=f"It has {', '.join(sorted(names))}.",
            table=wanted.name,
        )


def publication_problem(
    settings: PostgresCdcSettings,
    facts: ServerFacts,
    publication: Publication,
    tables: Sequence[TableFacts],
) -> FatalError | None:
    """Return what is wrong with a publication that exists."""
    problems = slot.publication_problems(settings, facts, publication, tables)
    return slot.publication_error(settings, problems) if problems else None


def require(
    connection: Connection, settings: PostgresCdcSettings
) -> tuple[ServerFacts, list[TableFacts]]:
    """Return the facts of server and tables; raise the first problem there is."""
    facts = catalog.read_facts(connection)
    for problem in server_problems(settings, facts):
        raise problem
    tables = []
    for wanted in settings.tables:
        found = catalog.read_table(connection, wanted)
        for problem in table_problems(settings, wanted, found):
            raise problem
        assert found is not None  # noqa: S101 - a missing table is a problem
        for problem in condition_problems(settings, wanted, found):
            raise problem
        tables.append(found)
    return facts, tables
