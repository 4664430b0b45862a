"""The schema registry."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, Table, Text

from flows.state.tables.columns import Ascii, metadata

registry_schemas = Table(
    "penstock_registry_schemas",
    metadata,
    # Given once and never again, also when nothing holds the schema any more: messages carry it.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("digest", Ascii, nullable=False),
    # "" once no version holds it.
    Column("text", Text, nullable=False),
    Column("references", Text, nullable=False),
    Index("penstock_registry_schemas_digest", "digest", unique=True),
)

registry_versions = Table(
    "penstock_registry_versions",
    metadata,
    Column("subject", Ascii, primary_key=True),
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
    Column("subject", Ascii, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Index("penstock_registry_references_to", "subject", "version"),
)

registry_settings = Table(
    "penstock_registry_settings",
    metadata,
    # "" for what holds where a subject says nothing.
    Column("subject", Ascii, primary_key=True),
    Column("compatibility", Text),
    Column("mode", Text),
)
