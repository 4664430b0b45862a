"""What the server knows: its version and settings, tables, publication and slot. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.postgres_cdc.connection import Connection
from connectors.postgres_cdc.position import parse_lsn
from connectors.postgres_cdc.progress import KEY_KINDS, KeyKind
from connectors.postgres_cdc.settings import TableSettings
from connectors.postgres_cdc.types import TYPES_SQL, TypeCatalog


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server and what the user in `connection` may do there."""

    version: int
    """As `server_version_num`: 160004."""
    wal_level: str
    database: str
    user: str
    may_replicate: bool
    may_create: bool
    """May create a publication in this database."""
    utf8: bool
    system: str
    """The cluster's identifier: another one means another cluster."""
    wal_lsn: int
    """Where its WAL ends."""
    in_recovery: bool
    wal_sender_timeout: float
    """Seconds; 0: never."""
    slots_used: int
    slots_max: int

    @property
    def release(self) -> str:
        """Return the version as people say it."""
        return f"{self.version // 10000}.{self.version % 10000}"


_FACTS_SQL = """
SELECT current_setting('server_version_num')::int,
       current_setting('wal_level'),
       current_database()::text,
       current_user::text,
       (SELECT rolsuper OR rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user)
         OR EXISTS (SELECT FROM pg_catalog.pg_roles r
                    WHERE r.rolname IN ('rds_replication', 'azure_pg_admin', 'cloudsqlsuperuser')
                      AND pg_catalog.pg_has_role(current_user, r.oid, 'member')),
       pg_catalog.has_database_privilege(current_database(), 'CREATE'),
       current_setting('server_encoding') = 'UTF8'
         OR current_setting('server_encoding') <> 'SQL_ASCII',
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END::text,
       pg_catalog.pg_is_in_recovery(),
       (SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'),
       (SELECT count(*)::int FROM pg_catalog.pg_replication_slots),
       current_setting('max_replication_slots')::int
"""


def read_facts(connection: Connection) -> ServerFacts:
    """Ask the server about itself."""
    row = connection.execute(_FACTS_SQL).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    values = list(row)
    values[8] = parse_lsn(values[8] or "0/0")
    values[10] = values[10] / 1000
    return ServerFacts(*values)


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table as it is now."""

    oid: int
    schema: str
    table: str
    kind: str
    """r: table, p: partitioned, else something that can't be published."""
    identity: str
    """d(efault), n(othing), f(ull), i(ndex)."""
    columns: tuple[tuple[str, int], ...]
    """Name and type oid, in the table's order, without generated columns."""
    key: tuple[str, ...]
    """The columns that identify a row in events, in the table's order."""
    identity_columns: frozenset[str]
    """The columns that the WAL has of an old row; all under FULL."""
    selectable: bool
    logged: bool
    modifiers: tuple[int, ...] = ()
    """Of the columns' types: 14 for varchar(10), -1 for none."""

    @property
    def name(self) -> str:
        """Return `schema.table`."""
        return f"{self.schema}.{self.table}"


_TABLE_SQL = """
SELECT c.oid::int8, c.relkind::text, c.relreplident::text, c.relpersistence::text = 'p',
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attgenerated = '' ORDER BY a.attnum),
       ARRAY(SELECT a.atttypid::int8 FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attgenerated = '' ORDER BY a.attnum),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
             WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY a.attnum),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
             WHERE i.indrelid = c.oid AND i.indisreplident ORDER BY a.attnum),
       n.nspname::text, c.relname::text,
       ARRAY(SELECT a.atttypmod FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attgenerated = '' ORDER BY a.attnum)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""


def _table(connection: Connection, row: tuple[Any, ...]) -> TableFacts:
    oid, kind, identity, logged, names, types, primary, replica, schema, table, modifiers = row
    key = replica if identity == "i" else primary
    identity_columns = {"f": names, "d": primary, "i": replica}.get(identity, [])
    selectable = connection.execute(
        "SELECT pg_catalog.has_table_privilege(%s::oid, 'SELECT') "
        "AND pg_catalog.has_schema_privilege(%s, 'USAGE')",
        (oid, schema),
    ).fetchone()
    return TableFacts(
        oid=oid,
        schema=schema,
        table=table,
        kind=kind,
        identity=identity,
        columns=tuple(zip(names, types, strict=True)),
        key=tuple(key),
        identity_columns=frozenset(identity_columns),
        selectable=bool(selectable and selectable[0]),
        logged=logged,
        modifiers=tuple(modifiers),
    )


def read_table(connection: Connection, wanted: TableSettings) -> TableFacts | None:
    """Return the table, or None when there is none of that name."""
    row = connection.execute(
        _TABLE_SQL + "WHERE n.nspname = %s AND c.relname = %s", (wanted.schema_name, wanted.table)
    ).fetchone()
    return None if row is None else _table(connection, row)


def read_table_by_oid(connection: Connection, oid: int) -> TableFacts | None:
    """Return the table, or None when it is gone."""
    row = connection.execute(_TABLE_SQL + "WHERE c.oid = %s::int8::oid", (oid,)).fetchone()
    return None if row is None else _table(connection, row)


def key_kinds(table: TableFacts, types: TypeCatalog) -> tuple[KeyKind, ...] | None:
    """Return how the key's columns are ordered; None when they can't be compared here."""
    by_name = dict(table.columns)
    if not table.key or any(name not in by_name for name in table.key):
        return None
    kinds = [KEY_KINDS.get(types.resolve(by_name[name]).oid) for name in table.key]
    known = tuple(kind for kind in kinds if kind is not None)
    return known if len(known) == len(kinds) else None


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table in the publication, with the columns and the condition it publishes."""

    schema: str
    table: str
    columns: tuple[str, ...] | None
    """None: the server is older than 15 and publishes all."""
    where: str | None


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication as it is."""

    operations: frozenset[str]
    via_root: bool
    all_tables: bool
    tables: dict[str, PublishedTable]
    """`schema.table` → how it is published; partitions appear as their root."""


def read_publication(connection: Connection, name: str, version: int) -> Publication | None:
    """Return the publication, or None when there is none of that name."""
    row = connection.execute(
        "SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, puballtables "
        "FROM pg_catalog.pg_publication WHERE pubname = %s",
        (name,),
    ).fetchone()
    if row is None:
        return None
    more = "attnames::text[], rowfilter" if version >= 150000 else "NULL, NULL"
    tables = connection.execute(
        f"SELECT schemaname::text, tablename::text, {more} "  # noqa: S608 - our own constants
        "FROM pg_catalog.pg_publication_tables WHERE pubname = %s",
        (name,),
    ).fetchall()
    names = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
    return Publication(
        operations=frozenset(name for name, on in zip(names, row[:4], strict=True) if on),
        via_root=row[4],
        all_tables=row[5],
        tables={
            f"{schema}.{table}": PublishedTable(
                schema, table, None if columns is None else tuple(columns), where
            )
            for schema, table, columns, where in tables
        },
    )


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """A replication slot as it is."""

    plugin: str
    database: str
    active: bool
    active_pid: int | None
    confirmed_lsn: int
    lost: str
    """Why the slot can't be read any more; "" when it can."""
    retained: str
    """wal_status: reserved, extended, unreserved or lost."""
    failover: bool = False
    """Standbys keep a copy of it."""
    synced: bool = False
    """It is such a copy: it can be read once its server is the primary."""
    retained_bytes: int | None = None
    """WAL that the server keeps for it; None once that is lost."""
    safe_bytes: int | None = None
    """WAL that may be written before it is in danger; None without max_slot_wal_keep_size."""


_SLOT_SQL = """
SELECT to_jsonb(s),
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END::text
FROM pg_catalog.pg_replication_slots s WHERE slot_name = %s
"""


def read_slot(connection: Connection, name: str) -> SlotFacts | None:
    """Return the slot, or None when there is none of that name."""
    row = connection.execute(_SLOT_SQL, (name,)).fetchone()
    if row is None:
        return None
    # As JSON, since the columns differ between versions (conflicting: 16, invalidation_reason: 17).
    slot: dict[str, Any] = row[0]
    retained = None
    if slot.get("restart_lsn"):
        retained = max(0, parse_lsn(row[1] or "0/0") - parse_lsn(slot["restart_lsn"]))
    lost = ""
    if slot.get("wal_status") == "lost":
        lost = slot.get("invalidation_reason") or "its WAL was removed (max_slot_wal_keep_size)"
    elif slot.get("invalidation_reason"):
        lost = str(slot["invalidation_reason"])
    elif slot.get("conflicting"):
        lost = "it conflicted with recovery"
    return SlotFacts(
        plugin=slot.get("plugin") or "(physical)",
        database=slot.get("database") or "",
        active=bool(slot["active"]),
        active_pid=slot.get("active_pid"),
        confirmed_lsn=parse_lsn(slot.get("confirmed_flush_lsn") or "0/0"),
        lost=lost,
        retained=slot.get("wal_status") or "",
        failover=bool(slot.get("failover")),
        synced=bool(slot.get("synced")),
        retained_bytes=retained,
        safe_bytes=slot.get("safe_wal_size"),
    )


def read_types(connection: Connection) -> TypeCatalog:
    """Return all types there are."""
    return TypeCatalog(connection.execute(TYPES_SQL).fetchall())


def read_type_names(
    connection: Connection, types: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    """Return type oid and modifier → how SQL writes it, as `character varying(10)`."""
    rows = connection.execute(
        "SELECT oid, modifier, pg_catalog.format_type(oid::oid, modifier) "
        "FROM unnest(%s::int8[], %s::int4[]) AS asked (oid, modifier)",
        ([oid for oid, _ in types], [modifier for _, modifier in types]),
    ).fetchall()
    return {(oid, modifier): name for oid, modifier, name in rows}


def add_types(connection: Connection, types: TypeCatalog, oids: Sequence[int]) -> None:
    """Add the types with these oids, and what they are based on or made of."""
    wanted = list(oids)
    while wanted:
        rows = connection.execute(
            TYPES_SQL + " WHERE oid = ANY (%s::int8[]::oid[])", (wanted,)
        ).fetchall()
        types.add(rows)
        related = [oid for row in rows for oid in (row[2], row[3]) if oid]
        wanted = types.missing(related)
        if not rows:
            return
