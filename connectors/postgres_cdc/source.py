"""`PostgresCdcSource`: configuration, checked against the server and opened as a reader."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

import psycopg

from connectors.contracts import Check, Opening, SourceTraits
from connectors.errors import FatalError
from connectors.postgres_cdc import catalog, plan, preflight, slot
from connectors.postgres_cdc.catalog import Publication, ServerFacts, TableFacts
from connectors.postgres_cdc.columns import Shape
from connectors.postgres_cdc.condition import Condition
from connectors.postgres_cdc.connection import Connection, connect_error, connect_or_fail
from connectors.postgres_cdc.feed import Ground
from connectors.postgres_cdc.position import parse_position
from connectors.postgres_cdc.reader import PostgresCdcReader
from connectors.postgres_cdc.requirements import publication_problem, require, table_problems
from connectors.postgres_cdc.runs import Interest
from connectors.postgres_cdc.settings import DEFAULT_TYPE, PostgresCdcSettings
from connectors.postgres_cdc.shapes import Known
from connectors.postgres_cdc.snapshot import SnapshotTable
from connectors.postgres_cdc.tables import snapshot_table
from connectors.postgres_cdc.types import TypeCatalog

_log = logging.getLogger(__name__)


class PostgresCdcSource:
    """A `source.postgres_cdc` module. One source partition, named by the slot."""

    traits = SourceTraits(
        ordered=True,
        replayable=False,
        seek_by_time=False,
        partitioned=False,
        json=True,
        decodes_late=True,
    )

    def __init__(self, name: str, settings: PostgresCdcSettings) -> None:
        self._settings = settings
        self._application = f"penstock {name}"[:63]

    def preflight(self) -> Iterable[Check]:
        """Check server, rights, tables, publication and slot; changes nothing."""
        return preflight.checks(self._settings, self._application)

    def open(self, opening: Opening) -> PostgresCdcReader:
        """Check, make the publication where it is missing, and start reading.

        Blocks for a few queries. A slot that is missing on the first start is made on the reader's
        thread, since that waits for running transactions. Raises FatalError.
        """
        settings = self._settings
        with closing(connect_or_fail(settings.connection, self._application)) as connection:
            try:
                return self._open(connection, opening)
            except psycopg.Error as error:
                raise connect_error(error) from error

    def _open(self, connection: Connection, opening: Opening) -> PostgresCdcReader:
        settings = self._settings
        if not opening.shard.takes(0):
            raise FatalError(
                f"the slot {settings.slot_name} has one partition, which is another worker's.",
                code="no_partition",
                hint="A replication slot is read by one worker; partition_by spreads its pipeline.",
            )
        facts, tables = require(connection, settings)
        text = opening.positions.get(settings.slot_name)
        stored = parse_position(text) if text else None
        found = (
            None
            if settings.snapshot == "only"
            else catalog.read_slot(connection, settings.slot_name)
        )
        decided = plan.decide(settings, facts, found, stored, time.time())
        if decided.warning:
            _log.warning("%s", decided.warning)
        publication = None
        if settings.snapshot != "only":
            publication = self._publication(connection, facts, tables)
        types = catalog.read_types(connection)
        ground = Ground(
            settings=settings,
            application=self._application,
            facts=facts,
            tables=_snapshot_tables(settings, tables, publication, types),
            types=types,
            keys={},
            type_names={},
            confirmed=0 if found is None else found.confirmed_lsn,
        )
        condition = settings.filter.condition
        interest = Interest(
            columns={table.name: table.columns for table in settings.tables},
            operations=frozenset(settings.filter.operations),
            condition=None if condition is None else Condition(condition),
            messages=settings.messages or (),
        )
        shape = Shape(
            slot=settings.slot_name,
            database=facts.database,
            include_before=settings.output.include_before,
            include_after=settings.output.include_after,
            type_of=_type_template(settings, opening),
            transaction=settings.output.transaction or settings.transaction_metadata,
        )
        end = facts.wal_lsn if opening.until_caught_up else None

        def describe(asked: Connection, name: str) -> SnapshotTable:
            return _described(asked, settings, facts, types, name)

        return PostgresCdcReader(
            ground,
            decided,
            interest,
            shape,
            end=end,
            describe=describe,
            stored=text or "",
            columns=_columns(tables, publication),
        )

    def _publication(
        self, connection: Connection, facts: ServerFacts, tables: Sequence[TableFacts]
    ) -> Publication:
        name = self._settings.publication_name
        found = catalog.read_publication(connection, name, facts.version)
        if found is None and facts.in_recovery:
            raise FatalError(
                f"the publication {name} doesn't exist, and a standby can't make one.",
                code="publication_missing",
                hint="Run on the primary: "
                f"{slot.create_publication_sql(self._settings, facts.version)};",
                publication=name,
            )
        if found is None:
            slot.create_publication(connection, self._settings, facts)
            found = catalog.read_publication(connection, name, facts.version)
        if found is None:
            raise FatalError(
                f"the publication {name} was dropped while it was looked at.",
                code="publication_missing",
                hint="Start again.",
            )
        problem = publication_problem(self._settings, facts, found, tables)
        if problem is not None:
            raise problem
        return found


def _described(
    connection: Connection,
    settings: PostgresCdcSettings,
    facts: ServerFacts,
    types: TypeCatalog,
    name: str,
) -> SnapshotTable:
    """Return a table as it is and is published now. Raises FatalError where it is not."""
    wanted = next(table for table in settings.tables if table.name == name)
    found = catalog.read_table(connection, wanted)
    published = catalog.read_publication(connection, settings.publication_name, facts.version)
    for problem in table_problems(settings, wanted, found):
        raise problem
    if found is None or published is None or name not in published.tables:
        raise FatalError(
            f"{name} is not in the publication {settings.publication_name} any more.",
            code="publication_mismatch",
            hint="Its changes are not sent; add it again, and ask for the snapshot anew.",
            publication=settings.publication_name,
        )
    missing = types.missing(oid for _, oid in found.columns)
    if missing:
        catalog.add_types(connection, types, missing)
    return _snapshot_tables(
        settings.model_copy(update={"tables": [wanted]}), [found], published, types
    )[0]


def _snapshot_tables(
    settings: PostgresCdcSettings,
    tables: Sequence[TableFacts],
    publication: Publication | None,
    types: TypeCatalog,
) -> list[SnapshotTable]:
    """Return the tables as the publication has them: the copy and the stream see the same rows."""
    made = []
    for wanted, found in zip(settings.tables, tables, strict=True):
        published = None if publication is None else publication.tables.get(wanted.name)
        columns = wanted.columns if published is None else published.columns
        table = snapshot_table(found, published=columns, shown=wanted.columns, types=types)
        where = wanted.where if published is None else published.where
        made.append(SnapshotTable(table, found.kind == "p", where))
    return made


def _columns(tables: Sequence[TableFacts], publication: Publication | None) -> Known:
    """Return the tables' columns as the stream would describe them now."""
    found = {}
    for table in tables:
        published = None if publication is None else publication.tables.get(table.name)
        names = None if published is None else published.columns
        found[table.name] = tuple(
            (name, oid, modifier)
            for (name, oid), modifier in zip(table.columns, table.modifiers, strict=True)
            if names is None or name in names
        )
    return found


def _type_template(
    settings: PostgresCdcSettings, opening: Opening
) -> Callable[[Mapping[str, Any]], str]:
    template = settings.output.type_template
    if template == DEFAULT_TYPE:
        # The same as the template, without needing a compiler for it.
        return lambda of: f"{of['schema']}.{of['table']}.{str(of['operation']).lower()}"
    if opening.compile_template is None:
        raise FatalError(
            "output.type_template can't be compiled here.",
            code="template_unavailable",
            hint=f"Leave it at its default, {DEFAULT_TYPE}.",
        )
    return opening.compile_template(template)
