"""`validate --connect`: everything the source needs, checked without changing anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing

import psycopg

from connectors.contracts import Check
from connectors.errors import FatalError, PenstockError
from connectors.postgres_cdc import catalog, requirements, slot
from connectors.postgres_cdc.catalog import ServerFacts, SlotFacts, TableFacts
from connectors.postgres_cdc.connection import (
    Connection,
    connect,
    connect_error,
    connect_or_fail,
)
from connectors.postgres_cdc.plan import DROP_HINT, check_slot
from connectors.postgres_cdc.position import format_lsn
from connectors.postgres_cdc.settings import PostgresCdcSettings

_IDENTITIES = {"d": "DEFAULT", "n": "NOTHING", "f": "FULL", "i": "INDEX"}


def checks(settings: PostgresCdcSettings, application: str) -> Iterator[Check]:
    """Yield one line for each thing looked at; what can't be looked at any more is left out."""
    try:
        connection = connect_or_fail(settings.connection, application)
    except FatalError as error:
        yield _failed("connection", error)
        return
    with closing(connection):
        try:
            yield from _all(connection, settings, application)
        except psycopg.Error as error:
            yield _failed("connection", connect_error(error))


def _failed(name: str, error: PenstockError) -> Check:
    unreachable = isinstance(error, FatalError) and error.unreachable
    return Check(name, ok=False, found=error.message, hint=error.hint, unreachable=unreachable)


def _verdict(name: str, problems: Iterable[FatalError], otherwise: str) -> Iterator[Check]:
    found = list(problems)
    if not found:
        yield Check(name, ok=True, found=otherwise)
    for problem in found:
        yield _failed(name, problem)


def _all(
    connection: Connection, settings: PostgresCdcSettings, application: str
) -> Iterator[Check]:
    facts = catalog.read_facts(connection)
    yield Check("connection", ok=True, found=f"{facts.user} in {facts.database}")
    yield from _verdict(
        "server",
        requirements.server_problems(settings, facts),
        f"PostgreSQL {facts.release}, wal_level {facts.wal_level}",
    )
    tables = []
    for wanted in settings.tables:
        found = catalog.read_table(connection, wanted)
        problems = list(requirements.table_problems(settings, wanted, found))
        if found is not None:
            problems += requirements.condition_problems(settings, wanted, found)
            tables.append(found)
        identity = "" if found is None else _IDENTITIES.get(found.identity, found.identity)
        yield from _verdict(
            f"table {wanted.name}", problems, f"replica identity {identity}, key {_key(found)}"
        )
        if found is not None and not found.key and settings.snapshot != "never":
            yield Check(
                f"table {wanted.name}",
                ok=False,
                severity="warning",
                found="it has no primary key: its events share one key, and a snapshot that is "
                "interrupted reads it again from its start",
                hint="Give it a primary key.",
            )
    if settings.snapshot == "only":
        return
    yield from _publication(connection, settings, facts, tables)
    yield from _retention(connection)
    found_slot = catalog.read_slot(connection, settings.slot_name)
    yield from _slot(settings, facts, found_slot)
    if facts.may_replicate:
        try:
            connect(settings.connection, application, replication=True).close()
        except psycopg.Error as error:
            yield _failed("replication connection", connect_error(error))
        else:
            yield Check("replication connection", ok=True, found="accepted")


def _key(found: TableFacts | None) -> str:
    return "none" if found is None or not found.key else ", ".join(found.key)


def _publication(
    connection: Connection,
    settings: PostgresCdcSettings,
    facts: ServerFacts,
    tables: list[TableFacts],
) -> Iterator[Check]:
    name = f"publication {settings.publication_name}"
    found = catalog.read_publication(connection, settings.publication_name, facts.version)
    if found is None:
        statement = slot.create_publication_sql(settings, facts.version)
        yield Check(
            name,
            ok=facts.may_create and not facts.in_recovery,
            found="there is none yet, and a standby can't make one"
            if facts.in_recovery
            else "there is none yet; it is created at the start"
            if facts.may_create
            else f"there is none, and {facts.user} may not create one in {facts.database}",
            hint=""
            if facts.may_create and not facts.in_recovery
            else f"Run as the tables' owner{' on the primary' if facts.in_recovery else ''}: "
            f"{statement};",
        )
        return
    problem = requirements.publication_problem(settings, facts, found, tables)
    yield from _verdict(name, [problem] if problem else [], "has what is needed")
    for table in settings.tables:
        published = found.tables.get(table.name)
        if published is not None and published.where and not table.where:
            yield Check(
                name,
                ok=False,
                severity="warning",
                found=f"it sends only the rows of {table.name} for which {published.where}",
                hint="Write it as `where` of the table, or use another publication.",
            )


def _retention(connection: Connection) -> Iterator[Check]:
    """Yield how much WAL a slot may hold, and for how long one may rest."""
    row = connection.execute(
        "SELECT current_setting('max_slot_wal_keep_size', true),"
        " current_setting('idle_replication_slot_timeout', true)"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    most, idle = row
    kept = (
        "no limit (max_slot_wal_keep_size): a flow that is stopped for long fills the server's disk"
        if most == "-1"
        else f"at most {most} (max_slot_wal_keep_size): a flow further behind loses its slot"
    )
    yield Check("WAL kept for a slot", ok=True, found=kept)
    if idle not in (None, "0"):
        yield Check(
            "WAL kept for a slot",
            ok=False,
            severity="warning",
            found=f"a flow that is stopped for {idle} loses its slot (idle_replication_slot_timeout)",
            hint="Set it to 0, or longer than the flow may be stopped.",
        )


def _slot(
    settings: PostgresCdcSettings, facts: ServerFacts, found: SlotFacts | None
) -> Iterator[Check]:
    name = f"slot {settings.slot_name}"
    if found is None:
        free = facts.slots_max - facts.slots_used
        yield Check(
            name,
            ok=free > 0,
            found=f"there is none yet; {free} of {facts.slots_max} slots are free",
            hint=""
            if free > 0
            else "Drop a slot that nobody needs, or raise max_replication_slots.",
        )
        return
    try:
        check_slot(settings, facts, found)
    except FatalError as error:
        yield _failed(name, error)
        return
    if found.lost:
        yield Check(
            name,
            ok=False,
            found=f"it is invalidated: {found.lost}",
            hint=DROP_HINT.format(slot=settings.slot_name),
        )
        return
    retained = facts.wal_lsn - found.confirmed_lsn
    at = f"at {format_lsn(found.confirmed_lsn)}, {max(0, retained):,} B behind the WAL's end"
    if found.active:
        yield Check(
            name,
            ok=False,
            severity="warning",
            found=f"{at}; server process {found.active_pid} is reading it",
            hint="One flow reads a slot at a time.",
        )
    elif found.retained == "unreserved":
        yield Check(
            name,
            ok=False,
            severity="warning",
            found=f"{at}; its WAL may be removed at the next checkpoint",
            hint="Raise max_slot_wal_keep_size, or start the flow now.",
        )
    else:
        yield Check(name, ok=True, found=at)
