"""The schema registry in the state store: what may be registered, read and deleted, and how it ends.

The rules are those of Confluent's Schema Registry. What is slow (compiling, comparing) happens
before a write's transaction, which then looks whether the subject is still what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from connectors.errors import RetryableError
from flows.state.schema_store import (
    GLOBAL,
    Content,
    SchemaStore,
    Subject,
    SubjectSettings,
    Version,
)
from schema_registry import errors
from schema_registry.checking import check_schema
from schema_registry.compatibility import Incompatibility, Known, incompatibilities
from schema_registry.documents import (
    Document,
    Reference,
    canonical,
    compact,
    digest,
    parse_schema,
)
from schema_registry.rules import DEFAULT_LEVEL, LEVELS, Level
from schema_registry.validation import SchemaError

Mode = Literal["READWRITE", "READONLY", "IMPORT"]
MODES: tuple[Mode, ...] = get_args(Mode)

LATEST = -1
"""The version that stands for the last one."""

_TRIES = 20
"""How often a write begins anew because somebody else has changed the subject meanwhile."""

_MOST_REFERRED = 200
"""Schemas that one schema refers to, those that they refer to included."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A schema that is offered: its text, parsed, and what it refers to."""

    text: str
    document: Document
    references: tuple[Reference, ...]

    @property
    def digest(self) -> str:
        """Return what tells its content apart."""
        return digest(self.document.value, self.references)


@dataclass(frozen=True, slots=True)
class Registered:
    """A version, and the schema that it holds."""

    version: Version
    content: Content


class SchemaRegistry:
    """Answers and changes one registry; a thread's own, as its store is. Raises RegistryError."""

    def __init__(self, store: SchemaStore) -> None:
        self._store = store

    # --- offering -----------------------------------------------------------------------------

    def candidate(
        self, text: str, references: Sequence[Reference] = (), *, normalize: bool = False
    ) -> Candidate:
        """Read a schema that is offered. Raises RegistryError 42201 when it is none."""
        try:
            value = parse_schema(text)
            resolved = tuple(self._resolved(each) for each in references)
            document = Document(value, self._referred(resolved, [0]))
            check_schema(document)
        except SchemaError as error:
            raise errors.invalid_schema(error.message, error.hint) from None
        if normalize:
            resolved = tuple(sorted(set(resolved)))
        return Candidate(canonical(value) if normalize else compact(value), document, resolved)

    def register(
        self,
        subject: str,
        candidate: Candidate,
        *,
        label: str | None = None,
        version: int | None = None,
        schema: int | None = None,
    ) -> Registered:
        """Register a schema, or return the version that holds it already.

        `version` and `schema` (its id) are taken in mode IMPORT alone. Raises IncompatibleError.
        """
        _check_subject(subject)
        return self._until_stored(
            lambda: self._register(subject, candidate, label, version, schema)
        )

    def _register(
        self,
        name: str,
        candidate: Candidate,
        label: str | None,
        version: int | None,
        schema: int | None,
    ) -> Registered | None:
        subject = self._store.subject(name)
        mode = _mode(subject)
        known = self._store.content_of(candidate.digest)
        importing = version is not None or schema is not None
        if importing and mode != "IMPORT":
            raise errors.not_permitted(f"Subject {name} is not in import mode.")
        if known is not None and not importing:
            held = [each for each in subject.live if each.schema == known.id]
            if held:
                return self._labelled(held[-1], known, label)
        if mode == "READONLY":
            raise errors.not_permitted(f"Subject {name} is in read-only mode.")
        if mode == "IMPORT":
            if not importing:
                raise errors.not_permitted(f"Subject {name} is in import mode.")
            self._check_import(subject, known, version, schema)
        else:
            self._check_next(name, subject, candidate, label=label)
        added = self._store.add(
            name,
            candidate.digest,
            candidate.text,
            candidate.references,
            expected=subject,
            label=label,
            version=version,
            schema=schema,
        )
        return None if added is None else Registered(added, self._content(added))

    def _check_next(
        self,
        name: str,
        subject: Subject,
        candidate: Candidate,
        *,
        label: str | None,
        level: Level | None = None,
        planned: Sequence[Known] = (),
    ) -> None:
        """Raise RegistryError when a new schema can't follow a subject's versions, and `planned`."""
        if label is not None and any(each.label == label for each in subject.live):
            raise errors.RegistryError(
                f"{name}@{label} is registered already, with another schema.",
                number=409,
                code="schema_label_taken",
                hint="A changed schema needs a version of its own.",
            )
        level = level or _level(subject)
        found = self._incompatible(level, subject.live, candidate, planned)
        if found:
            raise errors.IncompatibleError(name, level, found)

    def verify(
        self,
        name: str,
        candidate: Candidate,
        *,
        label: str | None,
        level: Level | None,
        planned: Sequence[Known],
    ) -> bool:
        """Tell whether `register` would add a version; raise RegistryError as it would.

        `level`: as if the subject had it. `planned`: versions that would be registered before.
        """
        subject = self._store.subject(name)
        known = self._store.content_of(candidate.digest)
        if known is not None and any(each.schema == known.id for each in subject.live):
            return False
        if _mode(subject) != "READWRITE":
            raise errors.not_permitted(f"Subject {name} takes no versions now.")
        self._check_next(name, subject, candidate, label=label, level=level, planned=planned)
        return True

    def _labelled(self, held: Version, content: Content, label: str | None) -> Registered:
        if label is not None and held.label is None:
            self._store.set_label(held, label)
        return Registered(held, content)

    def _check_import(
        self, subject: Subject, known: Content | None, version: int | None, schema: int | None
    ) -> None:
        if version is not None and any(each.version == version for each in subject.versions):
            raise errors.not_permitted(f"Version {version} is there already.")
        if schema is None:
            return
        if known is not None and known.id != schema:
            raise errors.RegistryError(
                f"Schema is registered with id {known.id} already, not {schema}.",
                number=42207,
                code="schema_id_differs",
            )
        if known is None and self._store.content(schema) is not None:
            raise errors.not_permitted(f"Id {schema} is another schema's.")

    def incompatibilities(
        self, subject: Subject, candidate: Candidate, only: Version | None = None
    ) -> list[Incompatibility]:
        """Return why a schema can't follow a subject's versions, or can't follow `only` this one."""
        versions = subject.live if only is None else [only]
        return self._incompatible(_level(subject), versions, candidate, ())

    def _incompatible(
        self,
        level: Level,
        versions: Sequence[Version],
        candidate: Candidate,
        planned: Sequence[Known],
    ) -> list[Incompatibility]:
        if level == "NONE":
            return []
        if not level.endswith("_TRANSITIVE"):  # the last one alone is compared, and read
            versions = () if planned else versions[-1:]
        try:
            known = [Known(each.version, self.document(each)) for each in versions]
            return incompatibilities(level, candidate.document, [*known, *planned])
        except SchemaError as error:
            raise errors.invalid_schema(error.message, error.hint) from None

    def check(
        self, subject: str, candidate: Candidate, version: int | None = None
    ) -> list[Incompatibility]:
        """Return why a schema can't be the next version of a subject; [] when it can be.

        `version`: it is compared with this one alone. A subject without versions takes any.
        """
        found = self._store.subject(subject)
        if version is None:
            return self.incompatibilities(found, candidate)
        if version == LATEST and not found.live:
            return []
        return self.incompatibilities(found, candidate, _pick(found, subject, version))

    def held(self, name: str, candidate: Candidate) -> int:
        """Return the version of a subject that holds a schema. Raises RegistryError."""
        return self.lookup(name, candidate).version.version

    def last(self, name: str) -> int:
        """Return the number of a subject's last version, deleted ones included; 0: there is none."""
        return max((each.version for each in self._store.subject(name).versions), default=0)

    def put(self, name: str, candidate: Candidate, label: str | None) -> int:
        """Register a schema; return its version."""
        return self.register(name, candidate, label=label).version.version

    # --- reading ------------------------------------------------------------------------------

    def subjects(self, prefix: str = "", *, deleted: bool = False, live: bool = True) -> list[str]:
        """Return the names of subjects."""
        return self._store.subjects(prefix, live=live, deleted=deleted)

    def versions(self, subject: str, *, deleted: bool = False, live: bool = True) -> list[Version]:
        """Return a subject's versions, oldest first. Raises RegistryError 40401."""
        found = [
            each
            for each in self._store.subject(subject).versions
            if (deleted if each.deleted else live)
        ]
        if not found:
            raise errors.no_subject(subject)
        return found

    def all_versions(self, prefix: str = "", *, deleted: bool = False) -> list[Registered]:
        """Return every subject's versions with their schemas."""
        return [
            Registered(each, self._content(each))
            for each in self._store.versions(prefix)
            if deleted or not each.deleted
        ]

    def get(self, subject: str, version: int = LATEST, *, deleted: bool = False) -> Registered:
        """Return a version. Raises RegistryError 40401, 40402."""
        found = _pick(self._store.subject(subject), subject, version, deleted=deleted)
        return Registered(found, self._content(found))

    def labelled(self, subject: str, label: str) -> Registered:
        """Return the version that flow files call so. Raises RegistryError 40401, 40402."""
        found = self._store.subject(subject)
        for each in reversed(found.live):
            if each.label == label:
                return Registered(each, self._content(each))
        raise errors.no_version(label) if found.live else errors.no_subject(subject)

    def lookup(self, subject: str, candidate: Candidate, *, deleted: bool = False) -> Registered:
        """Return the version of a subject that holds a schema. Raises RegistryError 40401, 40403."""
        found = self._store.subject(subject)
        versions = found.versions if deleted else found.live
        if not versions:
            raise errors.no_subject(subject)
        known = self._store.content_of(candidate.digest)
        for each in reversed(versions):
            if known is not None and each.schema == known.id:
                return Registered(each, known)
        raise errors.no_schema()

    def content(self, schema: int) -> Content:
        """Return a schema by its id. Raises RegistryError 40403."""
        found = self._store.content(schema)
        if found is None:
            raise errors.no_schema(schema)
        return found

    def content_by_guid(self, guid: str) -> Content:
        """Return a schema by its guid. Raises RegistryError 40403."""
        found = self._store.content_by_guid(guid)
        if found is None:
            raise errors.no_schema(guid)
        return found

    def versions_of(self, schema: int, *, deleted: bool = False) -> list[Version]:
        """Return the versions that hold a schema. Raises RegistryError 40403."""
        self.content(schema)
        return [each for each in self._store.versions_of(schema) if deleted or not each.deleted]

    def referrers(self, subject: str, version: int, *, deleted: bool = False) -> list[int]:
        """Return the ids of the schemas that refer to a version. Raises RegistryError."""
        found = _pick(self._store.subject(subject), subject, version, deleted=True)
        return self._store.referrers(subject, found.version, live=not deleted)

    def document(self, version: Version) -> Document:
        """Return a version's schema with all that it refers to. Raises SchemaError."""
        content = self._content(version)
        return Document(parse_schema(content.text), self._referred(content.references, [0]))

    def document_of(self, content: Content) -> Document:
        """Return a schema with all that it refers to. Raises SchemaError."""
        return Document(parse_schema(content.text), self._referred(content.references, [0]))

    def _content(self, version: Version) -> Content:
        return self.content(version.schema)

    def _resolved(self, reference: Reference) -> Reference:
        """Return a reference to a version that is there, by its number."""
        try:
            found = _pick(
                self._store.subject(reference.subject), reference.subject, reference.version
            )
        except errors.RegistryError:
            raise SchemaError(
                f'the reference "{reference.name}" leads nowhere: there is no version'
                f' {reference.version} of subject "{reference.subject}".',
                (),
                hint="Register that first.",
            ) from None
        return Reference(reference.name, reference.subject, found.version)

    def _referred(self, references: Sequence[Reference], count: list[int]) -> dict[str, Document]:
        """Return name → document, and theirs; a version that was deleted since counts as there."""
        documents = {}
        for each in references:
            count[0] += 1
            if count[0] > _MOST_REFERRED:
                raise SchemaError(f"it refers to more than {_MOST_REFERRED} other schemas.", ())
            subject = self._store.subject(each.subject)
            content = self._content(_pick(subject, each.subject, each.version, deleted=True))
            documents[each.name] = Document(
                parse_schema(content.text), self._referred(content.references, count)
            )
        return documents

    # --- deleting -----------------------------------------------------------------------------

    def delete_version(self, subject: str, version: int, *, permanent: bool = False) -> int:
        """Delete a version; `permanent`, one that is deleted already. Return its number."""
        return self._until_stored(lambda: self._delete_version(subject, version, permanent))

    def _delete_version(self, name: str, version: int, permanent: bool) -> int | None:
        subject = self._store.subject(name)
        if not subject.versions:
            raise errors.no_subject(name)
        found = _pick(subject, name, version, deleted=True)
        if permanent and not found.deleted:
            raise errors.version_not_deleted(name, found.version)
        if found.deleted and not permanent:
            raise errors.version_is_deleted(name, found.version)
        self._check_deletable(name, subject, [found], permanent=permanent)
        change = self._store.erase if permanent else self._store.mark_deleted
        return found.version if change(name, [found], expected=subject) else None

    def delete_subject(self, subject: str, *, permanent: bool = False) -> list[int]:
        """Delete a subject; `permanent`, one that is deleted already. Return its versions."""
        return self._until_stored(lambda: self._delete_subject(subject, permanent))

    def _delete_subject(self, name: str, permanent: bool) -> list[int] | None:
        subject = self._store.subject(name)
        if not subject.versions:
            raise errors.no_subject(name)
        if permanent and subject.live:
            raise errors.subject_not_deleted(name)
        if not permanent and not subject.live:
            raise errors.subject_is_deleted(name)
        versions = list(subject.versions) if permanent else subject.live
        self._check_deletable(name, subject, versions, permanent=permanent)
        change = self._store.erase if permanent else self._store.mark_deleted
        done = change(name, versions, expected=subject)
        return [each.version for each in versions] if done else None

    def _check_deletable(
        self, name: str, subject: Subject, versions: Sequence[Version], *, permanent: bool
    ) -> None:
        if _mode(subject) == "READONLY":
            raise errors.not_permitted(f"Subject {name} is in read-only mode.")
        for each in versions:
            # One that is gone for good must not be missed by a deleted schema either.
            by = self._store.referrers(name, each.version, live=not permanent)
            if by:
                raise errors.is_referenced(name, each.version, by)

    def _until_stored(self, work: Callable[[], Result | None]) -> Result:
        for _ in range(_TRIES):
            done = work()
            if done is not None:
                return done
        raise RetryableError(
            "the subject was changed by others each time it was to be changed here.",
            code="schema_contended",
            hint="Try again.",
        )

    # --- compatibility and mode ---------------------------------------------------------------

    def level(self, subject: str = GLOBAL) -> Level | None:
        """Return the compatibility that a subject has of its own, or that holds for all."""
        own = self._store.settings(subject).compatibility
        return _known_level(own) if own or subject != GLOBAL else DEFAULT_LEVEL

    def set_level(self, level: str, subject: str = GLOBAL) -> Level:
        """Set the compatibility of a subject, or of all that have none."""
        known = _parse_level(level)
        self._change(subject, compatibility=known)
        return known

    def forget_level(self, subject: str = GLOBAL) -> Level:
        """Let a subject follow what holds for all, or that be the default; return what it was."""
        before = self.level(subject)
        if before is None:
            raise errors.no_level(subject)
        self._change(subject, compatibility=None)
        return before

    def mode(self, subject: str = GLOBAL) -> Mode | None:
        """Return the mode that a subject has of its own, or that holds for all."""
        own = self._store.settings(subject).mode
        return _known_mode(own) if own or subject != GLOBAL else "READWRITE"

    def set_mode(self, mode: str, subject: str = GLOBAL, *, force: bool = False) -> Mode:
        """Set the mode; IMPORT only while there is no schema, but with `force`."""
        known = _known_mode(mode)
        if known is None:
            raise errors.RegistryError(
                f"The mode '{mode[:80]}' is not known.",
                number=42204,
                code="schema_mode_invalid",
                hint=f"Write one of {', '.join(MODES)}.",
            )
        empty = self._store.is_empty(None if subject == GLOBAL else subject)
        if mode == "IMPORT" and not force and not empty:
            raise errors.not_permitted("Cannot import since found existing subjects.")
        self._change(subject, mode=known)
        return known

    def forget_mode(self, subject: str) -> Mode:
        """Let a subject follow the mode that holds for all; return what it was."""
        before = self.mode(subject)
        if before is None or subject == GLOBAL:
            raise errors.no_mode(subject)
        self._change(subject, mode=None)
        return before

    def _change(self, subject: str, **values: Any) -> None:
        if subject != GLOBAL:
            _check_subject(subject)
        before = self._store.settings(subject)
        kept = {"compatibility": before.compatibility, "mode": before.mode}
        self._store.set_settings(subject, SubjectSettings(**(kept | values)))


def parse_version(text: str) -> int:
    """Return the number of a version, LATEST for "latest" and -1. Raises RegistryError 42202."""
    if text in {"latest", "-1"}:
        return LATEST
    if text.isascii() and text.isdecimal() and 0 < int(text[:11]) < 1 << 31:
        return int(text[:11])
    raise errors.invalid_version(text)


def _parse_level(text: str) -> Level:
    known = _known_level(text)
    if known is None:
        raise errors.RegistryError(
            f"The compatibility level '{text[:80]}' is not known.",
            number=42203,
            code="schema_level_invalid",
            hint=f"Write one of {', '.join(LEVELS)}.",
        )
    return known


def _pick(subject: Subject, name: str, version: int, *, deleted: bool = False) -> Version:
    versions = subject.versions if deleted else subject.live
    if not versions:
        raise errors.no_subject(name)
    if version == LATEST:
        return (subject.live or versions)[-1]
    for each in versions:
        if each.version == version:
            return each
    raise errors.no_version(version)


def _check_subject(name: str) -> None:
    if not (0 < len(name) <= 512 and name.isprintable()) or name in {"__GLOBAL", "__EMPTY"}:
        raise errors.invalid_subject(name)


def _level(subject: Subject) -> Level:
    own = subject.own.compatibility or subject.for_all.compatibility
    return _known_level(own) or DEFAULT_LEVEL


def _mode(subject: Subject) -> Mode:
    return _known_mode(subject.own.mode or subject.for_all.mode) or "READWRITE"


def _known_level(text: str | None) -> Level | None:
    return next((level for level in LEVELS if level == text), None)


def _known_mode(text: str | None) -> Mode | None:
    return next((mode for mode in MODES if mode == text), None)
