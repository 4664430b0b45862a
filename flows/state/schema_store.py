"""The schema registry's rows: contents by id, versions by subject, references, settings.

What may be stored, and when, is decided by `flows.schemas.registry`; here it is read and written. A
write happens under one lock for the whole registry, so that ids and versions are given in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, func, insert, select, update

from flows.state.database import Database, transaction
from flows.state.tables import (
    registry_references,
    registry_schemas,
    registry_settings,
    registry_versions,
)
from schema_registry.documents import Reference

_LOCK = 0x70656E7372656769
"""PostgreSQL's advisory lock of the registry: "pensregi" in ASCII."""

GLOBAL = ""
"""The subject whose settings hold where a subject has none."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Content:
    """A schema: what subjects' versions hold."""

    id: int
    digest: str
    text: str
    references: tuple[Reference, ...]

    @property
    def guid(self) -> str:
        """Return what names the same content in any registry of ours."""
        d = self.digest
        return f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:32]}"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a subject."""

    subject: str
    version: int
    schema: int
    label: str | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class SubjectSettings:
    """What a subject says of itself; None: what holds for all."""

    compatibility: str | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What a decision about a subject rests on."""

    versions: tuple[Version, ...]
    """Oldest first, deleted ones too."""
    own: SubjectSettings
    for_all: SubjectSettings

    @property
    def live(self) -> list[Version]:
        """Return the versions that are not deleted."""
        return [each for each in self.versions if not each.deleted]


_VERSION = tuple(
    registry_versions.c[name] for name in ("subject", "version", "schema", "label", "deleted")
)


class SchemaStore:
    """The registry's tables, on one store's connection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- reading ------------------------------------------------------------------------------

    def subject(self, name: str) -> Subject:
        """Return a subject; one without versions when there is none."""
        return self._database.run(lambda connection: _subject(connection, name))

    def subjects(self, prefix: str, *, live: bool, deleted: bool) -> list[str]:
        """Return the subjects that have live versions, deleted ones, or either."""
        column = registry_versions.c.subject
        query = select(column, func.min(registry_versions.c.deleted)).group_by(column)
        rows = self._all(query.order_by(column))
        return [
            name
            for name, all_deleted in rows
            if name.startswith(prefix) and (deleted if all_deleted else live)
        ]

    def versions(self, prefix: str = "") -> list[Version]:
        """Return the versions of all subjects, by subject and number."""
        query = select(*_VERSION).order_by(*_VERSION[:2])
        found = map(_version, self._all(query))
        return [each for each in found if each.subject.startswith(prefix)]

    def versions_of(self, schema: int) -> list[Version]:
        """Return the versions that hold a schema."""
        query = select(*_VERSION).where(registry_versions.c.schema == schema)
        return list(map(_version, self._all(query.order_by(*_VERSION[:2]))))

    def content(self, schema: int) -> Content | None:
        """Return a schema by its id, if a version holds it."""
        return self._content(registry_schemas.c.id == schema)

    def content_of(self, digest: str) -> Content | None:
        """Return a schema by its content; also one that no version holds any more: its id stays."""
        return self._content(registry_schemas.c.digest == digest, also_forgotten=True)

    def content_by_guid(self, guid: str) -> Content | None:
        """Return a schema by its guid."""
        start = guid.replace("-", "")
        column = registry_schemas.c.digest
        return self._content((column >= start) & (column < start + "~"))

    def referrers(self, subject: str, version: int, *, live: bool) -> list[int]:
        """Return the ids of schemas that refer to a version and that a version holds."""
        query = (
            select(registry_references.c.schema)
            .join(registry_versions, registry_versions.c.schema == registry_references.c.schema)
            .where(
                registry_references.c.subject == subject, registry_references.c.version == version
            )
            .distinct()
            .order_by(registry_references.c.schema)
        )
        if live:
            query = query.where(registry_versions.c.deleted == 0)
        return [row[0] for row in self._all(query)]

    def settings(self, subject: str) -> SubjectSettings:
        """Return what a subject says, or GLOBAL."""
        return self._database.run(lambda connection: _settings(connection, subject))

    def is_empty(self, subject: str | None = None) -> bool:
        """Tell whether a subject, or the registry, has no version, deleted ones included."""
        query = select(func.count()).select_from(registry_versions)
        if subject is not None:
            query = query.where(registry_versions.c.subject == subject)
        return bool(self._all(query)[0][0] == 0)

    def _content(self, condition: Any, *, also_forgotten: bool = False) -> Content | None:
        query = select(registry_schemas).where(condition)
        if not also_forgotten:
            query = query.where(registry_schemas.c.text != "")
        rows = self._all(query.limit(1))
        return _content_of(rows[0]) if rows else None

    def _all(self, query: Any) -> list[Any]:
        return self._database.run(lambda connection: list(connection.execute(query)))

    # --- writing ------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        digest: str,
        text: str,
        references: Sequence[Reference],
        *,
        expected: Subject,
        label: str | None,
        version: int | None,
        schema: int | None,
    ) -> Version | None:
        """Add a version; None, and nothing is stored, when the subject is no longer as expected.

        `version` and `schema`: its number and its id, where they are given and not the next ones.
        """

        def work(connection: Connection) -> Version | None:
            if _subject(connection, name) != expected:
                return None
            row = connection.execute(
                select(registry_schemas.c.id).where(registry_schemas.c.digest == digest)
            ).first()
            if row is not None:
                number = row[0]
                connection.execute(
                    update(registry_schemas)
                    .where(registry_schemas.c.id == number, registry_schemas.c.text == "")
                    .values(text=text)
                )
            else:
                last = connection.execute(select(func.max(registry_schemas.c.id))).scalar() or 0
                number = last + 1 if schema is None else schema
                _insert_content(connection, number, digest, text, references)
            latest = expected.versions[-1].version if expected.versions else 0
            added = Version(name, version or latest + 1, number, label, deleted=False)
            connection.execute(
                insert(registry_versions).values(
                    subject=name,
                    version=added.version,
                    schema=number,
                    label=label,
                    deleted=0,
                    registered_at=time.time(),
                )
            )
            return added

        return self._write(work)

    def set_label(self, version: Version, label: str) -> None:
        """Note what flow files call a version."""
        statement = update(registry_versions).where(_is(version)).values(label=label)
        self._write(lambda connection: connection.execute(statement))

    def mark_deleted(self, name: str, versions: Sequence[Version], *, expected: Subject) -> bool:
        """Mark versions as deleted; False when the subject is no longer as expected."""

        def work(connection: Connection) -> bool:
            if _subject(connection, name) != expected:
                return False
            for each in versions:
                connection.execute(update(registry_versions).where(_is(each)).values(deleted=1))
            if len(versions) == len(expected.live):
                # A subject that comes again begins anew.
                connection.execute(
                    delete(registry_settings).where(registry_settings.c.subject == name)
                )
            return True

        return self._write(work)

    def erase(self, name: str, versions: Sequence[Version], *, expected: Subject) -> bool:
        """Remove versions, and the texts that none holds then; False when not as expected."""

        def work(connection: Connection) -> bool:
            if _subject(connection, name) != expected:
                return False
            for each in versions:
                connection.execute(delete(registry_versions).where(_is(each)))
            held = select(registry_versions.c.schema)
            for schema in {each.schema for each in versions}:
                forgotten = (registry_schemas.c.id == schema) & registry_schemas.c.id.not_in(held)
                connection.execute(update(registry_schemas).where(forgotten).values(text=""))
            return True

        return self._write(work)

    def set_settings(self, subject: str, settings: SubjectSettings) -> None:
        """Store what a subject says, or GLOBAL."""

        def work(connection: Connection) -> None:
            connection.execute(
                delete(registry_settings).where(registry_settings.c.subject == subject)
            )
            if settings != SubjectSettings():
                connection.execute(
                    insert(registry_settings).values(
                        subject=subject, compatibility=settings.compatibility, mode=settings.mode
                    )
                )

        self._write(work)

    def _write(self, work: Callable[[Connection], Result]) -> Result:
        def write(connection: Connection) -> Result:
            with transaction(connection):
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                return work(connection)

        return self._database.run(write)


def _subject(connection: Connection, name: str) -> Subject:
    query = select(*_VERSION).where(registry_versions.c.subject == name)
    rows = connection.execute(query.order_by(registry_versions.c.version))
    return Subject(
        tuple(map(_version, rows)), _settings(connection, name), _settings(connection, GLOBAL)
    )


def _settings(connection: Connection, subject: str) -> SubjectSettings:
    row = connection.execute(
        select(registry_settings.c.compatibility, registry_settings.c.mode).where(
            registry_settings.c.subject == subject
        )
    ).first()
    return SubjectSettings() if row is None else SubjectSettings(*row)


def _insert_content(
    connection: Connection, number: int, digest: str, text: str, references: Sequence[Reference]
) -> None:
    listed = [[each.name, each.subject, each.version] for each in references]
    connection.execute(
        insert(registry_schemas).values(
            id=number, digest=digest, text=text, references=json.dumps(listed)
        )
    )
    for subject, version in {(each.subject, each.version) for each in references}:
        connection.execute(
            insert(registry_references).values(schema=number, subject=subject, version=version)
        )


def _content_of(row: Any) -> Content:
    references = tuple(Reference(*each) for each in json.loads(row.references))
    return Content(row.id, row.digest, row.text, references)


def _version(row: Any) -> Version:
    return Version(row[0], row[1], row[2], row[3], deleted=bool(row[4]))


def _is(version: Version) -> Any:
    columns = registry_versions.c
    return (columns.subject == version.subject) & (columns.version == version.version)
